#pragma once

#include <ATen/core/Tensor.h>

namespace orrery::ops {

/// One scale, shift or gate for each group of successive rows: float32 [groups, D], the rows split evenly among the groups.
/// `addend`, of the same shape, is added to it (AdaLN-LoRA). Undefined: none.
struct Modulation {
  at::Tensor values;
  at::Tensor addend;
};

enum class NormKind { kRms, kLayer };

/// norm(x) · weight · (1 + scale) + bias + shift over the last dimension of x [rows, D] (float32, bfloat16 or float16; rows
/// may be apart), or the SiLU of that, computed in float32. weight and bias are float32 [D] or undefined. Returns x's dtype,
/// contiguous. Throws Error(kArgument) naming the operand that has a wrong dtype, device, shape or stride.
at::Tensor modulated_norm(const at::Tensor& x, NormKind kind, double epsilon, const at::Tensor& weight = {},
                          const at::Tensor& bias = {}, const Modulation& scale = {}, const Modulation& shift = {},
                          bool silu = false);

/// residual + gate · x for [rows, D]; the same dtypes, strides and errors.
at::Tensor gated_residual(const at::Tensor& residual, const at::Tensor& x, const Modulation& gate);

}  // namespace orrery::ops
