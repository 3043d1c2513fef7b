#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace orrery::ops {

/// A 3x3 convolution over space (padded by one zero) and k frames of time.
struct Winograd3x3 {
  const at::Tensor& weight;  ///< [out, in, k, 3, 3] or [out, in, 3, 3]; any float dtype, widened where it is used
  const at::Tensor& bias;    ///< [out], or undefined
  at::Tensor residual = {};  ///< [B,T,H,W,out], added to the result; may be undefined
  bool doubled = false;      ///< the picture is doubled to the nearest pixel, each way, before the convolution
};

/// Whether winograd_3x3 is the faster way for clips like `x` [B,T,H,W,in]: float32 on the CPU, channels and pixels enough to
/// fill its tiles. `taps` is k.
bool winograd_pays(const at::Tensor& x, int64_t out, int64_t taps, bool doubled = false);

/// Convolves the frames of `x` float32 [B,T,H,W,in], channels-last, with the k − 1 frames before it (`history`, [B,1,H,W,in]
/// each, oldest first; undefined ones are zero and cost nothing at the start of a clip). Returns [B,T,H,W,out], twice as
/// high and wide where `doubled`. Rounds to about 2e-6 (relative L2); see kernels/winograd.h. Throws Error(kArgument) on
/// other shapes.
at::Tensor winograd_3x3(const std::vector<at::Tensor>& history, const at::Tensor& x, const Winograd3x3& conv);

}  // namespace orrery::ops
