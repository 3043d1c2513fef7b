#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/matmul.h"

namespace orrery::ops {

/// Parts of nearly equal size: how much each of them has of `size`, a multiple of `unit`, at most `most` (one as well).
inline int64_t part_of(int64_t size, int64_t most, int64_t unit) {
  const int64_t parts = (size + most - 1) / most;
  return ((size + parts - 1) / parts + unit - 1) / unit * unit;
}

/// How the kernels read a weight of float32, bfloat16 or float8 (e4m3).
inline kernels::WeightStorage storage_of(const at::Tensor& weight) {
  switch (weight.scalar_type()) {
    case at::kFloat: return kernels::WeightStorage::kFloat32;
    case at::kBFloat16: return kernels::WeightStorage::kBFloat16;
    default: return kernels::WeightStorage::kFloat8;
  }
}

}  // namespace orrery::ops
