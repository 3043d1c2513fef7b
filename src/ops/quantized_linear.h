#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace orrery::ops {

/// The most rows of x: beyond them a matrix product on tensor cores is faster.
inline constexpr int64_t kQuantizedLinearRows = 16;

/// x (scale · w)ᵀ + bias for x [M, in], M ≤ kQuantizedLinearRows, float32, bfloat16 or float16 (rows may be apart); w int8
/// or float8_e4m3fn [out, in], contiguous; scale float32 [out]; bias float32 [out] or undefined. Sums are float32. Returns
/// [M, out] of x's dtype. Throws Error(kArgument) naming the operand.
at::Tensor quantized_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale, const at::Tensor& bias);

}  // namespace orrery::ops
