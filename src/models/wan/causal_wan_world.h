#pragma once

#include <memory>

#include "orrery/world.h"

namespace orrery::models {

/// The causal network driven by keys and a mouse (Matrix-Game 2.0: network, Wan VAE, and where there is one a picture
/// encoder) or by words that may change while it goes on (Self-Forcing: network, Wan VAE, text encoder and tokenizer).
std::unique_ptr<World> build_causal_wan_world(const ModelDescription& model, const LoadOptions& options);

/// Its keys and mouse, from the network's config.
ActionSpace causal_wan_actions(const ModelDescription& model);

}  // namespace orrery::models
