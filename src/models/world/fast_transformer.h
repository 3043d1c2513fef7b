#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "ops/small_network.h"
#include "orrery/weights.h"

namespace orrery::models {

/// Numbers of a world's transformer, from its config.json.
struct TransformerSizes {
  int64_t patch, side, channels, width, heads, mlp, layers, tokens, action_features;
  double rope_base, eps;
};

/// OrreryWorldTransformer for one frame at a time, over plain buffers: what a world at play runs. OrreryWorldTransformer is
/// its twin in tensors, and the test. Everything that depends on the noise level and the action alone is computed once a
/// frame, for all its passes together.
class FastTransformer {
 public:
  FastTransformer(const TransformerSizes& sizes, const Weights& weights);

  /// Shifts, scales and gates of all blocks, one row for each of `noise` [passes,D] (the noise levels' part of the
  /// condition).
  std::vector<float> modulations(const at::Tensor& noise, std::span<const float> action_features) const;

  /// One pass over frame number `frame`: noisy, previous, clean float [C,h,w]; `modulation` one row of modulations();
  /// `pages` of past frames, each [layers,2,S,D] with keys turned by their own frame number; `page`, where not null,
  /// receives this frame's.
  void forward(const float* noisy, const float* previous, const float* modulation, int64_t frame,
               std::span<const float* const> pages, float* page, float* clean) const;

 private:
  struct Block {
    ops::PackedProduct space_qkv, space_out, time_qkv, time_out, mlp_in, mlp_out;
  };
  void to_tokens(const float* latent, int64_t offset, float* tokens) const;
  void rotate(float* rows, int64_t frame) const;

  TransformerSizes sizes_;
  ops::PackedProduct patch_in_, patch_out_, action_in_, action_out_, modulation_;
  at::Tensor position_;  // [S,D]
  std::vector<Block> blocks_;
};

}  // namespace orrery::models
