#pragma once

#include <memory>

#include "orrery/world.h"

namespace orrery::models {

/// A bundled world's folder ("OrreryWorldPipeline"): tokenizer, transformer, noise levels and action space.
std::unique_ptr<World> build_orrery_world(const ModelDescription& model, const LoadOptions& options);
/// Its action_space.json.
ActionSpace orrery_world_actions(const ModelDescription& model);

}  // namespace orrery::models
