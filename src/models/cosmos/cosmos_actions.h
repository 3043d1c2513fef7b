#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "orrery/action_space.h"
#include "orrery/load.h"
#include "orrery/world.h"

namespace orrery::models {

/// The robot's actions that steer a network with these embedders (see CosmosActionEmbedding). The files say how many numbers
/// there are and nothing else: seven are Bridge's, any other number the checkpoint's own.
/// Source: nvidia-cosmos/cosmos-predict2 data/action_conditioned/action_conditioned_dataset.py at 661da47.
class CosmosActions {
 public:
  /// Throws Error(kUnsupported) where the embedders take no whole rows.
  CosmosActions(int64_t features, int64_t per_latent_frame);

  /// The same for a stream, which takes the rows of one latent frame at a time.
  CosmosActions by_latent_frame() const;

  const ActionSpace& space() const { return space_; }  ///< in the data set's own units
  /// Rows [T,A] in those units as the network takes them, [1,T,A].
  at::Tensor normalised(const at::Tensor& rows) const;

 private:
  ActionSpace space_;
  int64_t per_latent_frame_;
  std::vector<double> scale_;
};

/// Frames [1,3,K,H,W] in [-1,1] as the references hand them from one chunk to the next: as pictures of 8 bits, cut off and
/// not rounded.
at::Tensor as_written_pictures(const at::Tensor& frames);

/// The action space of a described pipeline with such a network.
ActionSpace cosmos_action_space(const ModelDescription& model);
/// The same of a causal network, which runs frame by frame.
ActionSpace cosmos_causal_action_space(const ModelDescription& model);
/// The pipeline as a world to act in: a step takes the rows of one chunk and imagines its frames from the last one.
std::unique_ptr<World> build_cosmos_action_world(const ModelDescription& model, const LoadOptions& options);
/// A network trained to run frame by frame over the keys of its past (self-forcing), as a world: a step takes the rows of
/// one latent frame.
std::unique_ptr<World> build_cosmos_causal_world(const ModelDescription& model, const LoadOptions& options);

}  // namespace orrery::models
