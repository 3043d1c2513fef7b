#pragma once

#include "kernels/common/dispatch.h"
#include "kernels/cuda/device/running_softmax.h"
#include "kernels/paged_attention.h"

// A block takes 64 queries of one head, a warp 16 of them, and walks over the visible keys 64 at a time with a running
// softmax. Two threads bring in a key: they find its page, turn its pairs of channels and store it, rounded, where ldmatrix
// wants it; values are copied as they are. 48 KiB of shared memory hold queries, keys and values at 128 channels.
namespace orrery::kernels {

inline constexpr int kAttentionRows = 64;

template <class T, int kWidth>
struct AttentionShared {
  simt::Tile<T, kAttentionRows> query[kWidth / 32], key[kWidth / 32], value[kWidth / 32];
};

// Channels 8 a … and 8 b … of a key, b half a head after a, turned by the angles of visible key `i`.
template <class T, int kWidth>
__device__ __forceinline__ void turn(const PagedAttention& p, int64_t i, int a, simt::Vector<T, 8>& low,
                                     simt::Vector<T, 8>& high) {
  const float* cos = p.cos + i * (kWidth / 2);
  const float* sin = p.sin + i * (kWidth / 2);
  if (p.neighbours) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int pair = 4 * a + k, later = pair + kWidth / 4;
      const float l0 = to_float(low.at[2 * k]), l1 = to_float(low.at[2 * k + 1]);
      const float h0 = to_float(high.at[2 * k]), h1 = to_float(high.at[2 * k + 1]);
      low.at[2 * k] = from_float<T>(l0 * cos[pair] - l1 * sin[pair]);
      low.at[2 * k + 1] = from_float<T>(l1 * cos[pair] + l0 * sin[pair]);
      high.at[2 * k] = from_float<T>(h0 * cos[later] - h1 * sin[later]);
      high.at[2 * k + 1] = from_float<T>(h1 * cos[later] + h0 * sin[later]);
    }
  } else {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const float c = cos[8 * a + k], s = sin[8 * a + k], l = to_float(low.at[k]), h = to_float(high.at[k]);
      low.at[k] = from_float<T>(l * c - h * s);
      high.at[k] = from_float<T>(h * c + l * s);
    }
  }
}

template <class T, int kWidth>
__device__ __forceinline__ void load_keys(const PagedAttention& p, AttentionShared<T, kWidth>& shared, int64_t sequence,
                                          int64_t kv_head, int64_t first) {
  using Chunk = simt::Vector<T, 8>;
  const int row = threadIdx.x / 2;
  const int64_t i = first + row;
  const bool inside = i < p.visible;
  const T* key = static_cast<const T*>(p.keys) + (inside ? place_of_visible(p, p.key_pages, sequence, kv_head, i) : 0);
  const T* value = static_cast<const T*>(p.values) + (inside ? place_of_visible(p, p.value_pages, sequence, kv_head, i) : 0);
#pragma unroll
  for (int c = 0; c < kWidth / 32; ++c) {
    const int a = 2 * c + threadIdx.x % 2, b = a + kWidth / 16;
    simt::copy_async16(shared.value[a / 4].chunk(row, a % 4), value + 8 * a, inside);
    simt::copy_async16(shared.value[b / 4].chunk(row, b % 4), value + 8 * b, inside);
    Chunk low{}, high{};
    if (inside) {
      low = *reinterpret_cast<const Chunk*>(key + 8 * a);
      high = *reinterpret_cast<const Chunk*>(key + 8 * b);
      if (p.cos) turn<T, kWidth>(p, i, a, low, high);
    }
    *reinterpret_cast<Chunk*>(shared.key[a / 4].chunk(row, a % 4)) = low;
    *reinterpret_cast<Chunk*>(shared.key[b / 4].chunk(row, b % 4)) = high;
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(128, 2) paged_attention_kernel(PagedAttention p) {
  auto& shared = simt::shared<AttentionShared<T, kWidth>>();
  const int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
  const int64_t head = blockIdx.y, sequence = blockIdx.z, kv_head = head / (p.heads / p.kv_heads);
  const int64_t first_query = int64_t{blockIdx.x} * kAttentionRows;

  {
    const int row = threadIdx.x / 2;
    const bool inside = first_query + row < p.queries;
    const T* query =
        static_cast<const T*>(p.query) + sequence * p.query_batch + (first_query + row) * p.query_token + head * kWidth;
#pragma unroll
    for (int c = 0; c < kWidth / 16; ++c) {
      const int a = 2 * c + threadIdx.x % 2;
      simt::copy_async16(shared.query[a / 4].chunk(row, a % 4), query + 8 * a, inside);
    }
    simt::copies_commit();
  }

  const float scale = p.scale * 1.44269504f;  // powers of two instead of e
  simt::RunningSoftmax<T, kWidth> softmax;
#pragma unroll 1
  for (int64_t first = 0; first < p.visible; first += kAttentionRows) {
    load_keys<T, kWidth>(p, shared, sequence, kv_head, first);
    simt::copies_commit();
    simt::copies_wait<0>();
    simt::barrier();

    float scores[1][8][4] = {};
#pragma unroll
    for (int d = 0; d < kWidth / 32; ++d) simt::multiply_tiles(scores, shared.query[d], warp_row, shared.key[d], 0);
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        scores[0][n][i] = first + 8 * n + lane % 4 * 2 + i % 2 < p.visible ? scores[0][n][i] * scale : -INFINITY;
    softmax.add(scores[0], shared.value);
    simt::barrier();  // all have read the keys and values before the next come
  }

  softmax.finish();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t token = first_query + warp_row + 8 * half + lane / 4;
    if (token >= p.queries) continue;
    softmax.write(static_cast<T*>(p.out) + ((sequence * p.queries + token) * p.heads + head) * kWidth, half);
  }
}

inline int launch_paged_attention(const PagedAttention& p, void* stream) {
  if (p.batch == 0 || p.queries == 0 || p.heads == 0) return 0;
  const bool aligned =
      aligned16(p.query) && aligned16(p.keys) && aligned16(p.values) && p.query_token % 8 == 0 && p.query_batch % 8 == 0;
  if (!aligned || p.visible == 0 || p.heads > 65535 || p.batch > 65535) return kInvalidValue;
  const dim3 grid(blocks_of(p.queries, kAttentionRows), static_cast<unsigned>(p.heads), static_cast<unsigned>(p.batch));
  return for_half_type(p.type, [&](auto number) {
    using T = decltype(number);
    if (p.width == 64) return simt::launch(paged_attention_kernel<T, 64>, grid, 128, stream, p);
    if (p.width == 128) return simt::launch(paged_attention_kernel<T, 128>, grid, 128, stream, p);
    return kInvalidValue;
  });
}

}  // namespace orrery::kernels
