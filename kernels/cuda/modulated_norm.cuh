#pragma once

#include "kernels/common/dispatch.h"
#include "kernels/cuda/device/warp.h"
#include "kernels/modulated_norm.h"

// One warp a row, eight rows a block: no barrier and no shared memory. A row is read up to three times (mean, squares,
// result); the longest of real models is 10 KiB, so the second and third time it comes from the first-level cache.
namespace orrery::kernels {

inline constexpr int kRowsPerBlock = 8;

// N successive floats, four to an access where N allows.
template <int N>
__device__ __forceinline__ void read_floats(float (&values)[N], const float* from) {
  constexpr int kWidth = N % 4 == 0 ? 4 : 1;
  for (int i = 0; i < N; i += kWidth) {
    const auto part = *reinterpret_cast<const simt::Vector<float, kWidth>*>(from + i);
    for (int k = 0; k < kWidth; ++k) values[i + k] = part.at[k];
  }
}

template <int N>
__device__ __forceinline__ void read_modulation(float (&values)[N], const Modulation& m, int64_t group, int64_t column) {
  read_floats(values, m.values + group * m.stride + column);
  if (!m.addend) return;
  float addend[N];
  read_floats(addend, m.addend + group * m.addend_stride + column);
  for (int i = 0; i < N; ++i) values[i] += addend[i];
}

template <class T, int N>
__global__ void __launch_bounds__(256) modulated_norm_kernel(ModulatedNorm p) {
  using Vector = simt::Vector<T, N>;
  const int64_t row = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / 32;
  if (row >= p.rows) return;
  const int lane = threadIdx.x % 32;
  const T* x = static_cast<const T*>(p.x) + row * p.x_stride;
  T* out = static_cast<T*>(p.out) + row * p.out_stride;
  const int64_t group = row / p.rows_per_group;

  float mean = 0;
  if (p.centred) {
#pragma unroll 1
    for (int64_t column = lane * N; column < p.width; column += 32 * N) {
      const Vector v = *reinterpret_cast<const Vector*>(x + column);
      for (int i = 0; i < N; ++i) mean += to_float(v.at[i]);
    }
    mean = simt::warp_sum(mean) / static_cast<float>(p.width);
  }
  float squares = 0;
#pragma unroll 1
  for (int64_t column = lane * N; column < p.width; column += 32 * N) {
    const Vector v = *reinterpret_cast<const Vector*>(x + column);
    for (int i = 0; i < N; ++i) {
      const float centred = to_float(v.at[i]) - mean;
      squares += centred * centred;
    }
  }
  const float factor = 1.0f / sqrtf(simt::warp_sum(squares) / static_cast<float>(p.width) + p.epsilon);

#pragma unroll 1
  for (int64_t column = lane * N; column < p.width; column += 32 * N) {
    Vector v = *reinterpret_cast<const Vector*>(x + column);
    float value[N], other[N];
    for (int i = 0; i < N; ++i) value[i] = (to_float(v.at[i]) - mean) * factor;
    if (p.weight) {
      read_floats(other, p.weight + column);
      for (int i = 0; i < N; ++i) value[i] *= other[i];
    }
    if (p.scale.values) {
      read_modulation(other, p.scale, group, column);
      for (int i = 0; i < N; ++i) value[i] *= 1.0f + other[i];
    }
    if (p.bias) {
      read_floats(other, p.bias + column);
      for (int i = 0; i < N; ++i) value[i] += other[i];
    }
    if (p.shift.values) {
      read_modulation(other, p.shift, group, column);
      for (int i = 0; i < N; ++i) value[i] += other[i];
    }
    if (p.silu) {
      for (int i = 0; i < N; ++i) value[i] /= 1.0f + expf(-value[i]);
    }
    for (int i = 0; i < N; ++i) v.at[i] = from_float<T>(value[i]);
    *reinterpret_cast<Vector*>(out + column) = v;
  }
}

template <class T, int N>
__global__ void __launch_bounds__(256) gated_residual_kernel(GatedResidual p) {
  using Vector = simt::Vector<T, N>;
  const int64_t row = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / 32;
  if (row >= p.rows) return;
  const T* x = static_cast<const T*>(p.x) + row * p.x_stride;
  const T* residual = static_cast<const T*>(p.residual) + row * p.residual_stride;
  T* out = static_cast<T*>(p.out) + row * p.out_stride;
  const int64_t group = row / p.rows_per_group;
#pragma unroll 1
  for (int64_t column = threadIdx.x % 32 * N; column < p.width; column += 32 * N) {
    const Vector a = *reinterpret_cast<const Vector*>(x + column);
    Vector r = *reinterpret_cast<const Vector*>(residual + column);
    float gate[N];
    read_modulation(gate, p.gate, group, column);
    for (int i = 0; i < N; ++i) r.at[i] = from_float<T>(to_float(r.at[i]) + gate[i] * to_float(a.at[i]));
    *reinterpret_cast<Vector*>(out + column) = r;
  }
}

// Whether a pointer and the strides from it allow accesses of 16 bytes.
inline bool allows16(const Modulation& m) {
  return aligned16(m.values) && aligned16(m.addend) && m.stride % 4 == 0 && m.addend_stride % 4 == 0;
}

inline dim3 grid_of_rows(int64_t rows) {
  return dim3(blocks_of(rows, kRowsPerBlock));
}

inline int launch_modulated_norm(const ModulatedNorm& p, void* stream) {
  if (p.rows == 0 || p.width == 0) return 0;
  return for_float_type(p.type, [&](auto number) {
    using T = decltype(number);
    constexpr int N = simt::kVector<T>;
    const bool wide = p.width % N == 0 && p.x_stride % N == 0 && p.out_stride % N == 0 && aligned16(p.x) &&
                      aligned16(p.out) && aligned16(p.weight) && aligned16(p.bias) && allows16(p.scale) && allows16(p.shift);
    return simt::launch(wide ? modulated_norm_kernel<T, N> : modulated_norm_kernel<T, 1>, grid_of_rows(p.rows),
                        32 * kRowsPerBlock, stream, p);
  });
}

inline int launch_gated_residual(const GatedResidual& p, void* stream) {
  if (p.rows == 0 || p.width == 0) return 0;
  return for_float_type(p.type, [&](auto number) {
    using T = decltype(number);
    constexpr int N = simt::kVector<T>;
    const bool wide = p.width % N == 0 && p.x_stride % N == 0 && p.residual_stride % N == 0 && p.out_stride % N == 0 &&
                      aligned16(p.x) && aligned16(p.residual) && aligned16(p.out) && allows16(p.gate);
    return simt::launch(wide ? gated_residual_kernel<T, N> : gated_residual_kernel<T, 1>, grid_of_rows(p.rows),
                        32 * kRowsPerBlock, stream, p);
  });
}

}  // namespace orrery::kernels
