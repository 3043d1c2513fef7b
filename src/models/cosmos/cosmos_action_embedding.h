#pragma once

#include <ATen/core/Tensor.h>

#include "layers/linear.h"
#include "models/cosmos/cosmos_transformer_block.h"

namespace orrery::models {

/// How actions steer a network: two MLPs whose outputs are added to the embedding of the noise time.
/// Source: nvidia-cosmos/cosmos-predict2 models/video2world_action_dit.py (all actions at once) at 661da47 and
/// cosmos-transfer2.5 predict2/action/networks/action_conditioned_minimal_v1_lvg_dit.py (by latent frame).
class CosmosActionEmbedding {
 public:
  CosmosActionEmbedding() = default;
  /// Reads `action_embedder_B_D` and `action_embedder_B_3D`. `features` is what they take; `per_latent_frame` says that this
  /// many actions steer each latent frame behind the first (0: all actions steer all frames).
  CosmosActionEmbedding(const Weights& weights, int64_t features, int64_t width, int64_t per_latent_frame);

  /// actions float [B,T,A] for t latent frames → what to add to the embedding, [B,K,·] with K = 1 or t. `condition_mask`
  /// [B,1,t,h,w] (may be undefined): by frame, given ones are not steered. Throws Error(kArgument) when their number does
  /// not fit.
  CosmosTimeEmbedding operator()(const at::Tensor& actions, int64_t latent_frames, const at::Tensor& condition_mask) const;

  bool defined() const { return features_ > 0; }
  /// The actions float [B,T,A] before one latent frame of a stream → [B,1,·].
  CosmosTimeEmbedding of_frame(const at::Tensor& actions) const;

 private:
  struct Mlp {
    layers::Linear fc1, fc2;
    at::Tensor operator()(const at::Tensor& x) const;
  };
  int64_t features_ = 0, per_latent_frame_ = 0;
  Mlp embedder_B_D, embedder_B_3D;
};

}  // namespace orrery::models
