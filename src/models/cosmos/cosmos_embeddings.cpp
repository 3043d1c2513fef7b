#include "models/cosmos/cosmos_embeddings.h"

#include <ATen/ATen.h>

#include <cmath>
#include <sstream>

#include "layers/norm.h"
#include "layers/sinusoid.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr double kEps = 1e-6;
constexpr double kBaseFps = 24;

// Angles of positions first…first+count−1 (times `stretch`) on one axis that owns `dim` channels: [count, dim/2], in float32
// like the reference.
at::Tensor axis_angles(int64_t count, int64_t dim, double scale, double stretch, int64_t first = 0) {
  const double theta = 10000.0 * std::pow(scale, static_cast<double>(dim) / static_cast<double>(dim - 2));
  const at::Tensor exponent = at::arange(0, dim, 2, at::kFloat) / static_cast<double>(dim);
  const at::Tensor frequencies = at::pow(theta, exponent).reciprocal();
  return at::outer(at::arange(first, first + count, at::kFloat) * stretch, frequencies);
}

}  // namespace

CosmosPatchEmbed::CosmosPatchEmbed(const Weights& weights, int64_t in_channels, int64_t width,
                                   std::vector<int64_t> patch_size)
    : patch_size_(std::move(patch_size)),
      proj(weights.sub("proj"), in_channels * patch_size_[0] * patch_size_[1] * patch_size_[2], width, /*bias=*/false) {}

TokenGrid CosmosPatchEmbed::grid(at::IntArrayRef shape) const {
  for (int axis = 0; axis < 3; ++axis)
    if (shape[2 + axis] % patch_size_[axis] != 0 || shape[2 + axis] == 0) {
      std::ostringstream got, expected;
      got << shape;
      expected << "sides t, h, w that are multiples of " << at::IntArrayRef(patch_size_);
      throw Error(ErrorKind::kArgument,
                  {.place = "latents",
                   .what = "cannot be cut into patches",
                   .expected = expected.str(),
                   .got = "shape " + got.str(),
                   .hint = "choose a width and height that are multiples of the patch times the stride"});
    }
  return {shape[2] / patch_size_[0], shape[3] / patch_size_[1], shape[4] / patch_size_[2]};
}

at::Tensor CosmosPatchEmbed::operator()(const at::Tensor& latents) const {
  const TokenGrid g = grid(latents.sizes());
  const int64_t batch = latents.size(0), channels = latents.size(1);
  // [B,C,t,pt,h,ph,w,pw] → [B,t,h,w,C,pt,ph,pw] → [B,N,C·pt·ph·pw]
  const at::Tensor patches =
      latents.reshape({batch, channels, g.t, patch_size_[0], g.h, patch_size_[1], g.w, patch_size_[2]})
          .permute({0, 2, 4, 6, 1, 3, 5, 7})
          .reshape({batch, g.count(), -1});
  return proj(patches);
}

CosmosEmbedding::CosmosEmbedding(const Weights& weights, int64_t width)
    : width_(width),
      linear_1(weights.sub("t_embedder.linear_1"), width, width, /*bias=*/false),
      linear_2(weights.sub("t_embedder.linear_2"), width, 3 * width, /*bias=*/false),
      norm(weights.get("norm.weight", {width})) {}

CosmosTimeEmbedding CosmosEmbedding::operator()(const at::Tensor& times, const CosmosTimeEmbedding& actions) const {
  const at::Tensor sinusoids = layers::sinusoidal_embedding(times, width_);  // [B,K,D]
  const at::Tensor temb = linear_2(at::silu(linear_1(sinusoids)));
  if (!actions.temb.defined()) return {temb, layers::rms_norm(sinusoids, norm, kEps)};
  return {temb + actions.temb, layers::rms_norm(sinusoids + actions.embedded_timestep, norm, kEps)};
}

layers::Rotary cosmos_rotary(const CosmosGridConfig& config, int64_t head_dim, const TokenGrid& grid, double fps,
                             int64_t first_frame) {
  const int64_t dim_h = head_dim / 6 * 2, dim_w = dim_h, dim_t = head_dim - dim_h - dim_w;
  // The reference divides by fps before it multiplies by 24; in float32 that is one rounding we need not copy.
  const double stretch = fps > 0 ? kBaseFps / fps : 1.0;
  const at::Tensor angles = layers::grid_angles(axis_angles(grid.t, dim_t, config.rope_scale[0], stretch, first_frame),
                                                axis_angles(grid.h, dim_h, config.rope_scale[1], 1.0),
                                                axis_angles(grid.w, dim_w, config.rope_scale[2], 1.0));  // [N, head_dim/2]
  return {angles.cos(), angles.sin()};
}

CosmosLearnablePositionalEmbed::CosmosLearnablePositionalEmbed(const Weights& weights, int64_t width,
                                                               const CosmosGridConfig& config)
    : pos_emb_t(weights.get("pos_emb_t", {config.max_size[0] / config.patch_size[0], width})),
      pos_emb_h(weights.get("pos_emb_h", {config.max_size[1] / config.patch_size[1], width})),
      pos_emb_w(weights.get("pos_emb_w", {config.max_size[2] / config.patch_size[2], width})) {}

at::Tensor CosmosLearnablePositionalEmbed::operator()(const TokenGrid& grid) const {
  const int64_t width = pos_emb_t.size(1);
  const at::Tensor sum = pos_emb_t.narrow(0, 0, grid.t).view({grid.t, 1, 1, width}) +
                         pos_emb_h.narrow(0, 0, grid.h).view({1, grid.h, 1, width}) +
                         pos_emb_w.narrow(0, 0, grid.w).view({1, 1, grid.w, width});
  const at::Tensor rows = sum.view({1, grid.count(), width});
  const at::Tensor norm = at::linalg_vector_norm(rows, 2, at::IntArrayRef{-1}, /*keepdim=*/true);
  return rows / (norm / std::sqrt(static_cast<double>(width)) + kEps);
}

at::Tensor cosmos_padding_channel(const at::Tensor& padding_mask, at::IntArrayRef latent_shape) {
  const at::Tensor resized = at::upsample_nearest2d(padding_mask.to(at::kFloat), {latent_shape[3], latent_shape[4]});
  return resized.unsqueeze(2).expand({latent_shape[0], 1, latent_shape[2], latent_shape[3], latent_shape[4]});
}

}  // namespace orrery::models
