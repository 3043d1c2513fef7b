#pragma once

#include <ATen/core/Tensor.h>

namespace orrery::ops {

/// Whether matmul() takes this product: a float32 input of many rows (more than 8) and a contiguous weight of float32,
/// bfloat16, int8 or float8 (e4m3), both on the CPU.
bool takes_matmul(const at::Tensor& input, const at::Tensor& weight);

/// x Wᵀ + b. x float32 [..., in], weight float32, bfloat16, float8 (e4m3) or int8 [out, in], with `scales` float32 [out]
/// where it is int8 (else undefined: none), bias [out] or undefined → float32 [..., out].
///
/// A bfloat16 or float8 weight is expanded a cache-sized block at a time, by each thread its own. Large float products take
/// one level of Strassen's algorithm: an eighth less arithmetic, with the sums of its operands made while they are packed.
/// It is exact in real numbers; in float32 its error is like any other order of summation's, measured against the whole
/// product. With an int8 weight the input is rounded to 8 bits too (7 where int8_input_levels() is 63), each row by its own
/// largest element; sums are whole numbers. Where there are matrix tiles tile_matmul() does all of it, without Strassen.
/// Throws Error(kArgument) where the shapes do not fit.
at::Tensor matmul(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& scales = {},
                  const at::Tensor& bias = {});

/// What a row's largest input becomes beside an int8 weight: 127, or 63 on x86 without AVX512-VNNI or AVX-VNNI, whose
/// instruction adds two products in 16 bits, where 8-bit inputs would overflow.
int64_t int8_input_levels();

}  // namespace orrery::ops
