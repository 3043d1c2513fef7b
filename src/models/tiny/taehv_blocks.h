#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "layers/conv2d.h"
#include "orrery/weights.h"

namespace orrery::models {

// The blocks of TAEHV. They work on a clip whose frames are pictures of one large batch, time outside: [T·B,C,H,W].

/// A residual block that sees each frame beside the frame before it, as it entered this block (zeros before the first).
class MemBlock {
 public:
  MemBlock(const Weights& weights, int64_t in, int64_t out);
  /// `past` is [B,C,H,W], or undefined at the start of the clip.
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& past, int64_t batch) const;

 private:
  layers::Conv2d conv_0_, conv_2_, conv_4_;
  std::optional<layers::Conv2d> skip_;
};

/// The block of the "super" decoders: a 7x7 convolution of each channel, then an inverted bottleneck, no activation at the
/// end.
class SuperMemBlock {
 public:
  SuperMemBlock(const Weights& weights, int64_t width);
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& past, int64_t batch) const;

 private:
  layers::Conv2d conv_0_, conv_1_, conv_3_;
};

/// A block of either kind with its place in the cache.
struct MemoryBlock {
  std::variant<MemBlock, SuperMemBlock> block;
  int64_t slot;

  /// Runs the block on the frames that follow those in slots[slot], and leaves the last of them there.
  at::Tensor operator()(const at::Tensor& x, std::vector<at::Tensor>& slots, int64_t batch) const;
};

/// Brings `stride` neighbouring frames into the channels of one: [T·B,C,H,W] → [T/stride·B,stride·C,H,W].
at::Tensor fold_frames(const at::Tensor& x, int64_t stride, int64_t batch);
/// The reverse: [T·B,stride·C,H,W] → [T·stride·B,C,H,W].
at::Tensor unfold_frames(const at::Tensor& x, int64_t stride, int64_t batch);

/// TPool (a 1x1 convolution over the channels of `stride` frames) and the strided 3x3 convolution after it are both linear
/// without bias: one convolution that pools time and space by itself.
layers::Conv2d pool_and_downsample(const Weights& pool, int64_t stride, const Weights& conv, int64_t in, int64_t out);
/// Upsample, TGrow (a 1x1 convolution to `stride` frames) and the 3x3 convolution after them, as one for the same reason.
layers::UpsampleConv2d upsample_and_grow(const Weights& grow, int64_t stride, const Weights& conv, int64_t in, int64_t out);

}  // namespace orrery::models
