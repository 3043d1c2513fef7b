#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "models/wan/wan_vae_blocks.h"
#include "models/wan/wan_vae_config.h"

namespace orrery::models {

/// The encoder: [B,T,H,W,in_channels] → [B,t,h,w,2·z_dim]. Fed the first frame alone, then any multiple of the temporal stride.
/// Each level works on as few frames at a time as it may when frames are large, so that memory is that of the caches and a
/// few frames.
class WanEncoder3d {
 public:
  WanEncoder3d(const Weights& weights, const WanVaeConfig& config);
  at::Tensor operator()(const at::Tensor& x, CodecCache& cache, bool first) const;
  int64_t slots() const { return slots_; }

 private:
  struct Level {
    std::vector<WanResidualBlock> resnets;
    std::vector<WanAttentionBlock> attentions;  // one after each of resnets, or none
    std::optional<WanDownsample> downsampler;
    std::optional<AvgDown3D> avg_shortcut;
    int64_t width = 0;      // of its widest clip
    int64_t unit = 1;       // frames that one output frame needs
    at::Tensor run(at::Tensor x, CodecCache& cache, bool first) const;
  };

  int64_t slots_ = 0;
  layers::CausalConv3d conv_in_;
  std::vector<Level> levels_;
  std::optional<WanMidBlock> mid_block_;
  std::optional<WanHead> head_;
};

/// The decoder: latents [B,t,h,w,z_dim] → [B,T,H,W,out_channels], handed on piece by piece in the order of time. Fed the first
/// latent alone, then any number. Works depth first: a piece goes all the way to pixels before the next one begins.
class WanDecoder3d {
 public:
  using Sink = std::function<void(at::Tensor frames)>;
  WanDecoder3d(const Weights& weights, const WanVaeConfig& config);
  void operator()(const at::Tensor& z, CodecCache& cache, bool first, const Sink& sink) const;
  int64_t slots() const { return slots_; }

 private:
  struct Level {
    std::vector<WanResidualBlock> resnets;
    std::optional<WanUpsample> upsampler;
    std::optional<DupUp3D> avg_shortcut;
    int64_t growth = 1;  // elements of its widest clip for each pixel of a frame that goes in
    at::Tensor run(at::Tensor x, CodecCache& cache, bool first) const;
  };
  void descend(size_t level, at::Tensor x, CodecCache& cache, bool first, const Sink& sink) const;

  int64_t slots_ = 0;
  layers::CausalConv3d conv_in_;
  std::optional<WanMidBlock> mid_block_;
  std::vector<Level> levels_;
  std::optional<WanHead> head_;
};

}  // namespace orrery::models
