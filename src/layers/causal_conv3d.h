#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "orrery/autoencoder.h"
#include "orrery/weights.h"

namespace orrery::layers {

/// The sizes of a CausalConv3d.
struct CausalConv3dSizes {
  int64_t in;
  int64_t out;
  int64_t kernel_t = 3;
  int64_t kernel_s = 3;  ///< height and width; padded by kernel_s / 2 zeros on each side
  int64_t stride_t = 1;
};

/// A convolution over time and space that sees only the past. Clips are [B,T,H,W,C] (channels last, as the CPU's convolution
/// wants them). What lies before the first frame counts as zero. The input frames that later outputs need are kept in
/// kernel_t − stride_t slots of the stream's cache, so that a clip may come in chunks of any length (a multiple of
/// stride_t).
class CausalConv3d {
 public:
  /// Reads `weight` [out, in, kernel_t, kernel_s, kernel_s] and `bias` [out]; takes its slots from `next_slot`.
  CausalConv3d(const Weights& weights, const CausalConv3dSizes& sizes, int64_t& next_slot);

  /// [B,T,H,W,in] → [B,T / stride_t,H,W,out], plus `residual` of the result's shape, where there is one. Takes the input
  /// over: the cache keeps its last frames.
  at::Tensor operator()(at::Tensor x, CodecCache& cache, const at::Tensor& residual = {}) const;
  /// Only puts the frames of `x` into the cache, as if they had been seen.
  void remember(const at::Tensor& x, CodecCache& cache) const;

 private:
  at::Tensor directly(at::Tensor x, std::vector<at::Tensor> history) const;

  at::Tensor weight_;  // in the dtype it is stored in
  at::Tensor bias_;
  CausalConv3dSizes sizes_;
  int64_t first_slot_;  // one slot a frame, the newest last
};

/// The weight of a convolution as a device's own kernels, ours and cuDNN's, want it: the channels of a tap side by side in
/// memory. On the CPU as it is.
at::Tensor for_device(const at::Tensor& weight);

/// A convolution of each frame of [..,..,H,W,in] by weight [out,in,k,k] with zeros around it, of the frame doubled (nearest)
/// where `doubled`, plus `residual` of the result's shape, where there is one: by our kernel on a device that has it,
/// without the doubled frame in memory. Undefined where there is no such kernel.
at::Tensor spatial_conv_by_kernel(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool doubled,
                                  const at::Tensor& residual = {});

/// A 1x1x1 convolution of [..,C]: a linear map of the channels. Reads `weight` [out, in, 1, …] with `dims` ones, and `bias`.
class PointwiseConv {
 public:
  PointwiseConv(const Weights& weights, int64_t in, int64_t out, int64_t dims);
  at::Tensor operator()(const at::Tensor& x) const;
  /// As the operator, for the first `out` output channels alone.
  at::Tensor first(const at::Tensor& x, int64_t out) const;

 private:
  at::Tensor weight_;  // [out, in]
  at::Tensor bias_;
};

}  // namespace orrery::layers
