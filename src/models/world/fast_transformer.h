#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "ops/small_convolution.h"
#include "orrery/weights.h"

namespace orrery::models {

/// Numbers of a world's transformer, from its config.json.
struct TransformerSizes {
  int64_t patch, side, channels, conv_width, planes, head_convs, flows, width, heads, mlp, layers, tokens, window,
      action_features;
  double rope_base, eps;
};

/// OrreryWorldTransformer for one frame at a time, over plain buffers: what a world at play runs. OrreryWorldTransformer is
/// its twin in tensors, and the test. The convolutions' pictures lie channels last. Everything that depends on the noise
/// level and the action alone is computed once a frame, for all its passes together.
class FastTransformer {
 public:
  FastTransformer(const TransformerSizes& sizes, const Weights& weights);

  /// What a pass at each of the noise levels [passes] is told, a row each: shifts, scales and gates of all blocks, then the
  /// planes. `noise` [passes,D] is the levels' part of the condition.
  std::vector<float> conditions(const at::Tensor& noise, std::span<const float> levels,
                                std::span<const float> action_features) const;

  /// One pass over frame number `frame`: noisy, clean float [C,h,w]; previous [2,C,h,w], the frame before first; `condition`
  /// one row of conditions(); `pages` of past frames, each [layers,2,S,D] with keys turned by their own frame number;
  /// `page`, where not null, receives this frame's. Without `clean` only the page is made.
  void forward(const float* noisy, const float* previous, const float* condition, int64_t frame,
               std::span<const float* const> pages, float* page, float* clean) const;

 private:
  struct Block {
    ops::PackedProduct space_qkv, space_out, time_qkv, time_out, mlp_in, mlp_out;  // time_qkv: with a window of 1 its values
  };
  void stem(const float* noisy, const float* previous, const float* planes, float* fine) const;
  void head(const float* tokens, float* fine, const float* previous, float* clean) const;
  void move(const float* picture, const float* flow, float* out) const;
  std::vector<int64_t> corners() const;
  int64_t row() const { return modulation_.columns() + plane_in_.columns(); }
  void rotate(float* rows, std::span<const float> angles) const;
  std::vector<float> angles(int64_t frame) const;

  TransformerSizes sizes_;
  ops::SmallConvolution conv_in_, conv_stem_, conv_out_;
  std::optional<ops::SmallConvolution> conv_flow_, conv_moved_;
  std::vector<ops::SmallConvolution> convs_head_;
  ops::PackedProduct plane_in_, patch_in_, action_in_, action_out_, modulation_;
  std::vector<ops::PackedProduct> patch_out_;  // of each place of a patch
  at::Tensor position_;                        // [S,D]
  std::vector<Block> blocks_;
};

}  // namespace orrery::models
