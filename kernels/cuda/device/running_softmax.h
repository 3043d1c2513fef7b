#pragma once

#include "kernels/cuda/device/tiles.h"

namespace orrery::simt {

/// softmax(scores) · values for the 16 rows of a warp, 64 keys at a time: what was summed before shrinks when a larger score
/// comes. Scores are exponents of two, −∞ where a key must not be seen, and lie as the d of multiply_16x8x16, eight keys to
/// each. Rows lane / 4 and lane / 4 + 8 are the lane's; four neighbouring lanes share them.
template <class T, int kWidth>
struct RunningSoftmax {
  float sums[kWidth / 8][4] = {};
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {};

  /// 64 more keys, of which the first is seen by every row. Values lie as rows of keys, 32 channels to a tile.
  __device__ __forceinline__ void add(float (&scores)[8][4], Tile<T, 64> (&values)[kWidth / 32]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float now = largest[half];
#pragma unroll
      for (int n = 0; n < 8; ++n) now = fmaxf(now, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
      now = fmaxf(now, shuffle_xor(now, 1));
      now = fmaxf(now, shuffle_xor(now, 2));
      const float shrink = exp2f(largest[half] - now);
      largest[half] = now;
      total[half] *= shrink;
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n) {
        sums[n][2 * half] *= shrink;
        sums[n][2 * half + 1] *= shrink;
      }
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {  // 16 keys at a time: two fragments of scores are one of weights
      uint32_t weights[4];
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        const float low = exp2f(scores[2 * k + part / 2][part % 2 * 2] - largest[part % 2]);
        const float high = exp2f(scores[2 * k + part / 2][part % 2 * 2 + 1] - largest[part % 2]);
        total[part % 2] += low + high;
        weights[part] = packed(low, high);
      }
#pragma unroll
      for (int n = 0; n < kWidth / 8; n += 2) {
        uint32_t b[4];
        const int chunk = n + lane / 16;
        load_matrices_transposed(b, values[chunk / 4].chunk(16 * k + lane % 16, chunk % 4));
        const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
        multiply_16x8x16<T>(sums[n], weights, first);
        multiply_16x8x16<T>(sums[n + 1], weights, second);
      }
    }
  }

  /// The totals of a row come together from its four lanes.
  __device__ __forceinline__ void finish() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      total[half] += shuffle_xor(total[half], 1);
      total[half] += shuffle_xor(total[half], 2);
    }
  }

  /// The lane's part of a finished row, to the row's first channel.
  __device__ __forceinline__ void write(T* row, int half) const {
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n)
      *reinterpret_cast<uint32_t*>(row + 8 * n + threadIdx.x % 4 * 2) =
          packed(sums[n][2 * half] / total[half], sums[n][2 * half + 1] / total[half]);
  }

 private:
  static __device__ __forceinline__ uint32_t packed(float low, float high) {
    return kernels::from_float<T>(low).bits | static_cast<uint32_t>(kernels::from_float<T>(high).bits) << 16;
  }
};

}  // namespace orrery::simt
