#pragma once

#include "kernels/common/dispatch.h"
#include "kernels/cuda/device/running_softmax.h"
#include "kernels/int8_attention.h"

// As paged_attention, but queries and keys are int8 and meet in m16n8k32, which does twice the work of bfloat16; weights and
// values stay in 16 bits. A tile holds 64 int8 of a row, in chunks of 16. 32 KiB of shared memory at 128 channels.
namespace orrery::kernels {

template <class T, int kWidth>
struct Int8Shared {
  simt::Tile<BFloat16, 64> query[kWidth / 64], key[kWidth / 64];  // 64 bytes a row, whatever is in them
  simt::Tile<T, 64> value[kWidth / 32];
  float key_scale[64];
};

// Brings 64 rows of int8 from row `first` on; rows beyond `count` become zeros. Two threads a row.
template <int kWidth>
__device__ __forceinline__ void load_bytes(simt::Tile<BFloat16, 64> (&tiles)[kWidth / 64], const int8_t* rows, int64_t first,
                                           int64_t count) {
  const int row = threadIdx.x / 2;
  const bool inside = first + row < count;
#pragma unroll
  for (int c = threadIdx.x % 2; c < kWidth / 16; c += 2)
    simt::copy_async16(tiles[c / 4].chunk(row, c % 4), rows + (first + row) * kWidth + 16 * c, inside);
}

template <int kWidth>
__device__ __forceinline__ void multiply_bytes(int32_t (&sums)[8][4], simt::Tile<BFloat16, 64> (&query)[kWidth / 64],
                                               int warp_row, simt::Tile<BFloat16, 64> (&key)[kWidth / 64]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < kWidth / 32; ++k) {
    const int chunk = k % 2 * 2;
    uint32_t a[4];
    simt::load_matrices(a, query[k / 2].chunk(warp_row + lane % 16, chunk + lane / 16));
#pragma unroll
    for (int n = 0; n < 8; n += 2) {
      uint32_t b[4];
      simt::load_matrices(b, key[k / 2].chunk(8 * n + lane / 16 * 8 + lane % 8, chunk + lane / 8 % 2));
      const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
      simt::multiply_16x8x32(sums[n], a, low);
      simt::multiply_16x8x32(sums[n + 1], a, high);
    }
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(128, 2) int8_attention_kernel(Int8Attention p) {
  auto& shared = simt::shared<Int8Shared<T, kWidth>>();
  const int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16, row = threadIdx.x / 2;
  const int64_t head = blockIdx.y, batch = blockIdx.z, first_query = int64_t{blockIdx.x} * 64;
  const int64_t head_row = batch * p.heads + head;
  const int8_t* keys = p.key + head_row * p.keys * kWidth;
  const float* key_scale = p.key_scale + head_row * p.keys;
  load_bytes<kWidth>(shared.query, p.query + head_row * p.queries * kWidth, first_query, p.queries);
  simt::copies_commit();

  float row_scale[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t token = first_query + warp_row + 8 * half + lane / 4;
    row_scale[half] = token < p.queries ? p.query_scale[head_row * p.queries + token] * p.factor * 1.44269504f : 0.0f;
  }
  simt::RunningSoftmax<T, kWidth> softmax;
#pragma unroll 1
  for (int64_t first = 0; first < p.keys; first += 64) {
    load_bytes<kWidth>(shared.key, keys, first, p.keys);
    const bool inside = first + row < p.keys;
    const T* value = static_cast<const T*>(p.value) + batch * p.value_batch + (first + row) * p.value_token + head * kWidth;
#pragma unroll
    for (int c = threadIdx.x % 2; c < kWidth / 8; c += 2)
      simt::copy_async16(shared.value[c / 4].chunk(row, c % 4), value + 8 * c, inside);
    simt::copies_commit();
    if (threadIdx.x < 64)
      shared.key_scale[threadIdx.x] = first + threadIdx.x < p.keys ? key_scale[first + threadIdx.x] : 0.0f;
    simt::copies_wait<0>();
    simt::barrier();

    int32_t products[8][4] = {};
    multiply_bytes<kWidth>(products, shared.query, warp_row, shared.key);
    float scores[8][4];
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = 8 * n + lane % 4 * 2 + i % 2;
        scores[n][i] = first + key < p.keys ? static_cast<float>(products[n][i]) * (row_scale[i / 2] * shared.key_scale[key])
                                            : -INFINITY;
      }
    softmax.add(scores, shared.value);
    simt::barrier();
  }

  softmax.finish();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t token = first_query + warp_row + 8 * half + lane / 4;
    if (token >= p.queries) continue;
    softmax.write(static_cast<T*>(p.out) + ((batch * p.queries + token) * p.heads + head) * kWidth, half);
  }
}

// A warp a row.
template <class T>
__global__ void __launch_bounds__(256) quantize_heads_kernel(QuantizeHeads p) {
  const int64_t row = int64_t{blockIdx.x} * 8 + threadIdx.x / 32;
  if (row >= p.batch * p.heads * p.tokens) return;
  const int64_t token = row % p.tokens, head_row = row / p.tokens, batch = head_row / p.heads,
                head = head_row - batch * p.heads;
  const T* x = static_cast<const T*>(p.x) + batch * p.x_batch + token * p.x_token + head * p.width;
  const float* mean = p.mean ? p.mean + head_row * p.width : nullptr;
  float largest = 0;
  for (int64_t i = threadIdx.x % 32; i < p.width; i += 32) {
    const float size = fabsf(to_float(x[i]) - (mean ? mean[i] : 0.0f));
    largest = fmaxf(largest, size < INFINITY ? size : INFINITY);  // NaN too
  }
  largest = simt::warp_max(largest);
  const bool finite = largest < INFINITY;
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  if (threadIdx.x % 32 == 0) p.scale[row] = finite ? largest / 127.0f : NAN;
  for (int64_t i = threadIdx.x % 32; i < p.width; i += 32) {
    const float scaled = (to_float(x[i]) - (mean ? mean[i] : 0.0f)) * inverse;
    p.values[row * p.width + i] = static_cast<int8_t>(finite ? rintf(scaled) : 0.0f);
  }
}

inline int launch_quantize_heads(const QuantizeHeads& p, void* stream) {
  const int64_t rows = p.batch * p.heads * p.tokens;
  if (rows == 0) return 0;
  return for_half_type(p.type, [&](auto number) {
    return simt::launch(quantize_heads_kernel<decltype(number)>, dim3(blocks_of(rows, 8)), 256, stream, p);
  });
}

inline int launch_int8_attention(const Int8Attention& p, void* stream) {
  if (p.batch == 0 || p.queries == 0 || p.heads == 0) return 0;
  const bool aligned =
      aligned16(p.query) && aligned16(p.key) && aligned16(p.value) && p.value_token % 8 == 0 && p.value_batch % 8 == 0;
  if (!aligned || p.keys == 0 || p.heads > 65535 || p.batch > 65535) return kInvalidValue;
  const dim3 grid(blocks_of(p.queries, 64), static_cast<unsigned>(p.heads), static_cast<unsigned>(p.batch));
  return for_half_type(p.type, [&](auto number) {
    using T = decltype(number);
    if (p.width == 64) return simt::launch(int8_attention_kernel<T, 64>, grid, 128, stream, p);
    if (p.width == 128) return simt::launch(int8_attention_kernel<T, 128>, grid, 128, stream, p);
    return kInvalidValue;
  });
}

}  // namespace orrery::kernels
