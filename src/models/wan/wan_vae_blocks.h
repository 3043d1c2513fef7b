#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "layers/causal_conv3d.h"
#include "orrery/autoencoder.h"
#include "orrery/weights.h"

// The blocks of the Wan VAE. Clips are [B,T,H,W,C] inside the network. `first` says that the chunk is the clip's first frame
// alone, for which the layers that change the number of frames stand aside.
// Reference: diffusers 0.42.1, src/diffusers/models/autoencoders/autoencoder_kl_wan.py.
namespace orrery::models {

/// norm, SiLU, convolution, twice, beside a shortcut.
class WanResidualBlock {
 public:
  WanResidualBlock(const Weights& weights, int64_t in, int64_t out, int64_t& next_slot);
  at::Tensor operator()(at::Tensor x, CodecCache& cache) const;

 private:
  at::Tensor norm1_;
  layers::CausalConv3d conv1_;
  at::Tensor norm2_;
  layers::CausalConv3d conv2_;
  std::optional<layers::PointwiseConv> conv_shortcut_;
};

/// Attention of one head over the pixels of each frame.
class WanAttentionBlock {
 public:
  WanAttentionBlock(const Weights& weights, int64_t dim);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  at::Tensor norm_;
  layers::PointwiseConv to_qkv_;
  layers::PointwiseConv proj_;
};

/// A residual block, attention, a residual block.
class WanMidBlock {
 public:
  WanMidBlock(const Weights& weights, int64_t dim, int64_t& next_slot);
  at::Tensor operator()(at::Tensor x, CodecCache& cache) const;

 private:
  WanResidualBlock resnet0_;
  WanAttentionBlock attention_;
  WanResidualBlock resnet1_;
};

/// The norm, SiLU and convolution at the end of encoder and decoder (`norm_out`, `conv_out`).
class WanHead {
 public:
  WanHead(const Weights& weights, int64_t in, int64_t out, int64_t& next_slot);
  at::Tensor operator()(at::Tensor x, CodecCache& cache) const;

 private:
  at::Tensor norm_out_;
  layers::CausalConv3d conv_out_;
};

/// Halves height and width and, where `temporal`, the number of frames.
class WanDownsample {
 public:
  WanDownsample(const Weights& weights, int64_t dim, bool temporal, int64_t& next_slot);
  at::Tensor operator()(const at::Tensor& x, CodecCache& cache, bool first) const;

 private:
  at::Tensor weight_, bias_;  // resample.1
  std::optional<layers::CausalConv3d> time_conv_;
};

/// Doubles height and width and, where `temporal`, the number of frames.
class WanUpsample {
 public:
  WanUpsample(const Weights& weights, int64_t in, int64_t out, bool temporal, int64_t& next_slot);
  at::Tensor operator()(at::Tensor x, CodecCache& cache, bool first) const;

 private:
  at::Tensor weight_;  // resample.1
  at::Tensor bias_;
  std::optional<layers::CausalConv3d> time_conv_;
};

/// The shortcut of a residual down block: blocks of time and space become channels, and groups of those their mean.
struct AvgDown3D {
  int64_t out;
  int64_t factor_t;
  int64_t factor_s;
  at::Tensor operator()(const at::Tensor& x) const;
};

/// The shortcut of a residual up block: channels are repeated and become blocks of time and space.
struct DupUp3D {
  int64_t out;
  int64_t factor_t;
  at::Tensor operator()(const at::Tensor& x, bool first) const;
};

}  // namespace orrery::models
