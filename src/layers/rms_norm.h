#pragma once

#include <ATen/core/Tensor.h>

namespace orrery::layers {

/// x / max(‖x‖₂, 1e-12) · √C · gamma over the last dimension C: an RMS norm without an epsilon inside the root.
/// Computed in float32 where `x` is narrower; the result has x's dtype. gamma [C].
at::Tensor l2_rms_norm(const at::Tensor& x, const at::Tensor& gamma);
/// The same; `x` is used up and becomes it.
at::Tensor& l2_rms_norm_(at::Tensor& x, const at::Tensor& gamma);
/// silu(l2_rms_norm(x)): one pass over memory where `x` is float32 on the CPU, and on a device that has our kernels.
at::Tensor l2_rms_norm_silu(const at::Tensor& x, const at::Tensor& gamma);
/// The same; `x` is used up and becomes it.
at::Tensor& l2_rms_norm_silu_(at::Tensor& x, const at::Tensor& gamma);

}  // namespace orrery::layers
