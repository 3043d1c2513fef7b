#pragma once

#include <ATen/core/Tensor.h>

namespace orrery::ops {

/// Whether linear_small() takes this product: float32 input [..., in] of at most eight rows, contiguous weight [out, in] of
/// bfloat16, int8 or float8 (e4m3), both on the CPU.
bool takes_linear_small(const at::Tensor& input, const at::Tensor& weight);

/// x Wᵀ, float32 [..., out], for which takes_linear_small() holds; weights are widened in registers, so that the product
/// costs one reading of them as they are stored. Throws Error(kArgument) where it does not hold.
at::Tensor linear_small(const at::Tensor& input, const at::Tensor& weight);

}  // namespace orrery::ops
