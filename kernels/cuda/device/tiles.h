#pragma once

#include "kernels/cuda/device/warp.h"

namespace orrery::simt {

/// Rows of 32 sixteen-bit numbers in shared memory, in chunks of eight. Chunks change places from row to row, so that the
/// eight rows which ldmatrix reads at once lie in different banks.
template <class T, int kRows>
struct Tile {
  alignas(16) T values[kRows * 32];

  __device__ T* chunk(int row, int index) { return values + row * 32 + ((index ^ (row / 2)) & 3) * 8; }
};

/// sums[m][n] += left rows · right rowsᵀ for a warp: left rows first_left + 16 m …, right rows first_right + 8 n …; the
/// depth is the tiles' 32. Fragments lie as multiply_16x8x16 says.
template <int M, int N, class T, int kLeft, int kRight>
__device__ __forceinline__ void multiply_tiles(float (&sums)[M][N][4], Tile<T, kLeft>& left, int first_left,
                                               Tile<T, kRight>& right, int first_right) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    uint32_t a[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m) load_matrices(a[m], left.chunk(first_left + 16 * m + lane % 16, 2 * k + lane / 16));
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      uint32_t b[4];
      load_matrices(b, right.chunk(first_right + 8 * n + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
      const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
      for (int m = 0; m < M; ++m) {
        multiply_16x8x16<T>(sums[m][n], a[m], low);
        multiply_16x8x16<T>(sums[m][n + 1], a[m], high);
      }
    }
  }
}

}  // namespace orrery::simt
