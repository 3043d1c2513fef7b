#pragma once

#include <simt.h>

namespace orrery::simt {

/// The sum over the warp's 32 lanes, in every lane; always added in the same order.
__device__ __forceinline__ float warp_sum(float value) {
  for (int mask = 16; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}
__device__ __forceinline__ float warp_max(float value) {
  for (int mask = 16; mask > 0; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
  return value;
}

/// N numbers that are read and written in one access.
template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  T at[N];
};

/// How many numbers of a type fit an access of 16 bytes.
template <class T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));

}  // namespace orrery::simt
