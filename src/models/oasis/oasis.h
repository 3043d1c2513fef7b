#pragma once

#include <memory>
#include <optional>

#include "orrery/config.h"
#include "orrery/weights.h"
#include "orrery/world.h"

// What the registry needs of this family, beside its networks' builders.
namespace orrery::models {

/// Recognises the diffusion transformer by its tensors and reads its sizes off them.
std::optional<Config> describe_oasis_dit(const Weights& weights);
/// Recognises the ViT-VAE likewise; heads are taken as 64 wide, which the file does not say.
std::optional<Config> describe_oasis_autoencoder(const Weights& weights);

/// A folder with both networks ("OasisWorldPipeline"). A `scheduler` part may hold `ddim_steps` and `stabilization_level`.
std::unique_ptr<World> build_oasis_world(const ModelDescription& model, const LoadOptions& options);

/// Keys, buttons and camera as VPT records them.
ActionSpace oasis_actions(const ModelDescription& model);

}  // namespace orrery::models
