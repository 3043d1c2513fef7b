#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "models/world/world_tokenizer.h"
#include "ops/small_convolution.h"

namespace orrery::models {

/// The decoder of OrreryTokenizer for one frame, over plain buffers with channels last: what a world at play runs.
class FastDecoder {
 public:
  explicit FastDecoder(const OrreryTokenizer& tokenizer);

  /// latent float [C,h,w] in dynamics space → frame float [3,H,W], clamped to [-1,1].
  void operator()(const float* latent, float* frame) const;

 private:
  struct Norm {
    at::Tensor weight, bias;
  };
  struct Block {
    Norm norm1, norm2;
    ops::SmallConvolution conv1, conv2;
  };
  struct Level {
    std::vector<ops::PackedProduct> up;  // of each of the four pixels that one becomes; none at the first level
    std::vector<Block> blocks;
    int64_t width;
  };
  void norm_and_convolve(const Norm& norm, const ops::SmallConvolution& conv, const float* x, float* out,
                         ops::Then then = ops::Then::kStore) const;

  ops::SmallConvolution conv_in_, conv_out_;
  std::vector<Level> levels_;
  Norm norm_out_;
  int64_t channels_, side_, groups_;
  float eps_;
  std::vector<float> mean_, std_;
};

}  // namespace orrery::models
