#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "orrery/weights.h"

namespace orrery::layers {

/// The sizes of a Conv2d. Padding is kernel / 2, so that stride 1 keeps the picture's size.
struct Conv2dSizes {
  int64_t in;
  int64_t out;
  int64_t kernel = 3;
  int64_t stride = 1;
  int64_t groups = 1;
  bool bias = true;
};

/// A two-dimensional convolution of pictures [N,C,H,W] and what follows it in small networks. Pictures come out
/// channels-last, which the CPU's convolution reads without rearranging (64 channels: 1.7 times as fast as rows first, on an
/// AVX2 machine).
class Conv2d {
 public:
  /// Reads `weight` [out, in / groups, kernel, kernel] and, where sizes.bias, `bias` [out].
  Conv2d(const Weights& weights, const Conv2dSizes& sizes);
  /// From tensors computed at load. `bias` may be undefined; padding 0 is for inputs that are padded already.
  Conv2d(const at::Tensor& weight, at::Tensor bias, int64_t stride, int64_t padding);

  /// conv(x)
  at::Tensor operator()(const at::Tensor& x) const;
  /// relu(conv(x))
  at::Tensor relu(const at::Tensor& x) const;
  /// relu(conv(x) + residual)
  at::Tensor add_relu(const at::Tensor& x, const at::Tensor& residual) const;

  int64_t out_channels() const { return weight_.size(0); }

 private:
  at::Tensor weight_;
  at::Tensor bias_;
  int64_t stride_ = 1;
  int64_t padding_ = 0;
  int64_t groups_ = 1;
};

/// Nearest-neighbour doubling followed by a 3x3 convolution without bias, as one: each of the four output pixels of an input
/// pixel sees only 2x2 different values, so the nine taps fold into four and the large picture is written once.
/// The convolution may have `frames` times the output channels; they become that many pictures, in place in time
/// (a clip [T·B,C,H,W] with time outside becomes [T·frames·B,C',2H,2W]).
class UpsampleConv2d {
 public:
  /// `weight` is the 3x3 weight [frames · out, in, 3, 3].
  UpsampleConv2d(const at::Tensor& weight, int64_t frames = 1);
  at::Tensor operator()(const at::Tensor& x, int64_t batch) const;

 private:
  Conv2d taps_;  // [4 · frames · out, in, 2, 2] over the padded picture
  int64_t frames_;
};

}  // namespace orrery::layers
