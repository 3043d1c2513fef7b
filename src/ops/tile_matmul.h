#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/tiles.h"

namespace orrery::ops {

/// Whether matmul() hands its products to tile_matmul(): matrix tiles (Intel AMX), ten times as wide as vectors.
bool uses_tiles();

/// ops::matmul() by matrix tiles, of checked operands: input float32 [rows, in], contiguous, `scales` and `bias` float32
/// [out] or undefined → float32 [rows, out].
///
/// Inputs are split into three bfloat16 that add up to them, float32 weights as well, and what is multiplied is summed in
/// float32: as exact as float32. An infinite or NaN input gives what it gives in float32; an infinity among the weights
/// makes its output NaN. Numbers below 2^-126 count as zeros, and those below 2^-102 lose digits. With an int8 weight the
/// results are those of the other instructions, bit for bit.
at::Tensor tile_matmul(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& bias,
                       kernels::TileMachine machine = kernels::TileMachine::kProcessor);

}  // namespace orrery::ops
