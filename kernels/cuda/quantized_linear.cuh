#pragma once

#include "kernels/common/dispatch.h"
#include "kernels/cuda/device/warp.h"
#include "kernels/quantized_linear.h"

// A warp an output. Its lanes read the weights 16 bytes each, so the warp takes 512 successive weights at a time; x is small
// and comes from the cache. Up to four rows of x share one reading of the weights; more rows take another round. Bound by
// reading the weights: tensor cores would wait.
namespace orrery::kernels {

__device__ __forceinline__ float widened_weight(int8_t value) {
  return static_cast<float>(value);
}
__device__ __forceinline__ float widened_weight(Float8 value) {
  return to_float(value);
}

template <class T, class W, int kRows, bool kWide>
__global__ void __launch_bounds__(256) quantized_linear_kernel(QuantizedLinear p) {
  constexpr int kStep = kWide ? 16 : 1, kParts = kWide ? 16 / simt::kVector<T> : 1, kPart = kStep / kParts;
  const int64_t n = int64_t{blockIdx.x} * 8 + threadIdx.x / 32;
  if (n >= p.out) return;
  const int lane = threadIdx.x % 32;
  const W* weight = static_cast<const W*>(p.weight) + n * p.in;
#pragma unroll 1
  for (int64_t first = 0; first < p.rows; first += kRows) {
    float sums[kRows] = {};
#pragma unroll 1
    for (int64_t k = lane * kStep; k < p.in; k += 32 * kStep) {
      const auto w = *reinterpret_cast<const simt::Vector<W, kStep>*>(weight + k);
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        if (first + m >= p.rows) break;
        const T* x = static_cast<const T*>(p.x) + (first + m) * p.x_stride + k;
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          const auto values = *reinterpret_cast<const simt::Vector<T, kPart>*>(x + part * kPart);
#pragma unroll
          for (int i = 0; i < kPart; ++i) sums[m] += to_float(values.at[i]) * widened_weight(w.at[part * kPart + i]);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      const float sum = simt::warp_sum(sums[m]);
      if (lane == 0 && first + m < p.rows)
        static_cast<T*>(p.y)[(first + m) * p.out + n] = from_float<T>(sum * p.scale[n] + (p.bias ? p.bias[n] : 0.0f));
    }
  }
}

template <class T, class W>
int launch_quantized_linear_of(const QuantizedLinear& p, void* stream) {
  const dim3 grid(blocks_of(p.out, 8));
  const bool wide = p.in % 16 == 0 && aligned16(p.x) && aligned16(p.weight) && p.x_stride % simt::kVector<T> == 0;
  if (!wide) return simt::launch(quantized_linear_kernel<T, W, 1, false>, grid, 256, stream, p);
  return simt::launch(p.rows == 1 ? quantized_linear_kernel<T, W, 1, true> : quantized_linear_kernel<T, W, 4, true>, grid,
                      256, stream, p);
}

inline int launch_quantized_linear(const QuantizedLinear& p, void* stream) {
  if (p.rows == 0 || p.out == 0) return 0;
  return for_float_type(p.type, [&](auto number) {
    using T = decltype(number);
    return p.weight_type == Number::kInt8 ? launch_quantized_linear_of<T, int8_t>(p, stream)
                                          : launch_quantized_linear_of<T, Float8>(p, stream);
  });
}

}  // namespace orrery::kernels
