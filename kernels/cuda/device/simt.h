#pragma once

// What a kernel may ask of the machine, for nvcc. tests/simt/simt.h is the same list for a C++ compiler: kernels include
// <simt.h>, and the include path decides which machine they are for.
#include <cuda_runtime.h>

#include "kernels/common/numbers.h"

namespace orrery::simt {

/// The block's shared memory, as one T; every thread gets the same. Not initialised.
template <class T>
__device__ __forceinline__ T& shared() {
  __shared__ alignas(16) unsigned char bytes[sizeof(T)];
  return *reinterpret_cast<T*>(bytes);
}

/// All threads of the block meet; what they wrote to memory before is seen after.
__device__ __forceinline__ void barrier() {
  __syncthreads();
}

/// The value of the lane whose number differs by `lane_mask`; all 32 lanes take part.
template <class T>
__device__ __forceinline__ T shuffle_xor(T value, int lane_mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, lane_mask);
}
/// The value of lane `lane`; all 32 lanes take part.
template <class T>
__device__ __forceinline__ T shuffle(T value, int lane) {
  return __shfl_sync(0xFFFFFFFFu, value, lane);
}

/// Sixteen bytes from global into shared memory, both aligned to 16; zeros where `!valid`, and then `from` is not read. They
/// are there once copies_wait and a barrier are behind.
__device__ __forceinline__ void copy_async16(void* to, const void* from, bool valid) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(valid ? 16 : 0) : "memory");
}
/// Ends a group of this thread's copies.
__device__ __forceinline__ void copies_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until at most the newest `Pending` groups of this thread are under way.
template <int Pending>
__device__ __forceinline__ void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

/// Four 8x8 matrices of 16-bit numbers from shared memory; lane 8·i + r names the 16 bytes of row r of matrix i. Lane l then
/// holds elements 2(l % 4) and + 1 of row l / 4 of each.
__device__ __forceinline__ void load_matrices(uint32_t (&fragment)[4], const void* row) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(address)
               : "memory");
}
/// The same, each matrix transposed.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&fragment)[4], const void* row) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(address)
               : "memory");
}

/// d += a b for the warp: a [16,16] by rows, b [16,8] by columns, d [16,8] float32. With g = lane / 4 and t = lane % 4,
/// a holds (g, 2t) (g+8, 2t) (g, 2t+8) (g+8, 2t+8), b holds (2t, g) (2t+8, g), each with its successor in k; d holds
/// (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1).
template <class T>
__device__ __forceinline__ void multiply_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
template <>
__device__ __forceinline__ void multiply_16x8x16<kernels::BFloat16>(float (&d)[4], const uint32_t (&a)[4],
                                                                    const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void multiply_16x8x16<kernels::Float16>(float (&d)[4], const uint32_t (&a)[4],
                                                                   const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// The same for int8: a [16,32], b [32,8], d int32. Registers hold four successive k: a (g, 4t) (g+8, 4t) (g, 4t+16)
/// (g+8, 4t+16), b (4t, g) (4t+16, g).
__device__ __forceinline__ void multiply_16x8x32(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Starts kernel(args) on a stream. The CUDA error, 0 if there is none.
template <class Args>
int launch(void (*kernel)(Args), dim3 grid, unsigned block, void* stream, const Args& args) {
  kernel<<<grid, block, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace orrery::simt
