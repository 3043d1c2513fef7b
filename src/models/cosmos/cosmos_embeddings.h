#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "layers/linear.h"
#include "layers/rotary.h"
#include "models/cosmos/cosmos_transformer_block.h"
#include "orrery/weights.h"

namespace orrery::models {

/// How latents become tokens and where they stand; names and defaults of CosmosTransformer3DModel.
struct CosmosGridConfig {
  std::vector<int64_t> patch_size = {1, 2, 2};
  std::vector<int64_t> max_size = {128, 240, 240};
  std::vector<double> rope_scale = {2.0, 1.0, 1.0};
};

/// The number of tokens along t, h, w.
struct TokenGrid {
  int64_t t, h, w;
  int64_t count() const { return t * h * w; }
};

/// Latents [B,C,t·pt,h·ph,w·pw] cut into patches and projected: [B,N,D]. Weight "proj.weight" [D, C·pt·ph·pw].
class CosmosPatchEmbed {
 public:
  CosmosPatchEmbed(const Weights& weights, int64_t in_channels, int64_t width, std::vector<int64_t> patch_size);
  at::Tensor operator()(const at::Tensor& latents) const;
  /// Throws Error(kArgument) where a side is no multiple of the patch.
  TokenGrid grid(at::IntArrayRef shape) const;

 private:
  std::vector<int64_t> patch_size_;
  layers::Linear proj;
};

/// The noise time: sinusoids, an MLP for the blocks' shared modulation and a norm for their own.
class CosmosEmbedding {
 public:
  CosmosEmbedding(const Weights& weights, int64_t width);
  /// times float [B,K] → temb [B,K,3D], embedded_timestep [B,K,D]. `actions`, where defined, are added to both before the
  /// norm.
  CosmosTimeEmbedding operator()(const at::Tensor& times, const CosmosTimeEmbedding& actions = {}) const;

 private:
  int64_t width_;
  layers::Linear linear_1, linear_2;
  at::Tensor norm;
};

/// Rotary angles of the grid with NTK-scaled bases; `fps` > 0 stretches time so that 24 frames are one second's worth. The
/// grid's first frame has number `first_frame`.
layers::Rotary cosmos_rotary(const CosmosGridConfig& config, int64_t head_dim, const TokenGrid& grid, double fps,
                             int64_t first_frame = 0);

/// Learned positions (Predict1): one table an axis, summed and scaled to unit root mean square. [1,N,D]
class CosmosLearnablePositionalEmbed {
 public:
  CosmosLearnablePositionalEmbed(const Weights& weights, int64_t width, const CosmosGridConfig& config);
  at::Tensor operator()(const TokenGrid& grid) const;

 private:
  at::Tensor pos_emb_t, pos_emb_h, pos_emb_w;
};

/// A padding mask [1 or B,1,H,W] brought to the latents' size (nearest) and repeated over time: [B,1,t,h,w].
at::Tensor cosmos_padding_channel(const at::Tensor& padding_mask, at::IntArrayRef latent_shape);

}  // namespace orrery::models
