#pragma once

#include <ATen/core/Tensor.h>

namespace orrery::ops {

/// silu(l2 norm(x)) over the last dimension in one pass: x / max(‖x‖₂, 1e-12) · √C · gamma. `x` is float32 [..,C], dense, on
/// the CPU; gamma [C] of any float dtype. The result is written into `y`, like `x`; it may be `x`. Throws Error(kArgument)
/// otherwise.
void l2_norm_silu(const at::Tensor& x, const at::Tensor& gamma, const at::Tensor& y);

/// silu(group norm(x)) with one group a frame: `x` float32 [N,..,C], dense, on the CPU; mean and variance over all of a
/// frame but N, in float64; weight and bias [C] of any float dtype. The result is written into `y`, like `x`; it may be `x`.
/// Throws Error(kArgument) otherwise.
void frame_norm_silu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double epsilon,
                     const at::Tensor& y);

}  // namespace orrery::ops
