#pragma once

#include <cstdint>

#include "kernels/common/numbers.h"

namespace orrery::kernels {

/// y = x · (scale · w)ᵀ + bias for few rows of x: decoding tokens one at a time. w is int8 or float8 (e4m3) [out, in] with
/// one float32 scale for each output; it is read once and widened in registers, sums are float32.
struct QuantizedLinear {
  Number type = Number::kFloat32;      ///< of x and y: float32, bfloat16 or float16
  Number weight_type = Number::kInt8;  ///< int8 or float8
  int64_t rows = 0, in = 0, out = 0;
  const void* x = nullptr;  ///< [rows, in]
  int64_t x_stride = 0;
  const void* weight = nullptr;  ///< [out, in], contiguous
  const float* scale = nullptr;  ///< [out]
  const float* bias = nullptr;   ///< [out] or null
  void* y = nullptr;             ///< [rows, out]
};

/// Outputs [begin, end) of every row on the CPU.
void quantized_linear_cpu(const QuantizedLinear& p, int64_t begin, int64_t end);

}  // namespace orrery::kernels

/// On the GPU; the CUDA error, 0 if there is none.
extern "C" int orrery_cuda_quantized_linear(const orrery::kernels::QuantizedLinear* p, void* stream);
