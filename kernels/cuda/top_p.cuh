#pragma once

#include "kernels/common/dispatch.h"
#include "kernels/cuda/device/warp.h"
#include "kernels/top_p.h"

// A block a row. Nothing is sorted: the least weight to keep is found bit by bit, the largest bound whose weights still sum
// to what is wanted, in 33 passes over logits that lie in the cache. Sums are whole numbers, so their order does not matter.
namespace orrery::kernels {

inline constexpr int kTopPThreads = 256;

struct TopPShared {
  uint64_t sums[kTopPThreads / 32];
  float largest[kTopPThreads / 32];
  uint64_t before[kTopPThreads];
};

// The block's sum, in every thread.
__device__ __forceinline__ uint64_t block_sum(TopPShared& shared, uint64_t value) {
  for (int mask = 16; mask > 0; mask /= 2) value += simt::shuffle_xor(value, mask);
  simt::barrier();  // the last sum has been read
  if (threadIdx.x % 32 == 0) shared.sums[threadIdx.x / 32] = value;
  simt::barrier();
  uint64_t sum = 0;
  for (int warp = 0; warp < kTopPThreads / 32; ++warp) sum += shared.sums[warp];
  return sum;
}

// What a thread's logits weigh together, those of at least `least`.
template <class T>
__device__ __forceinline__ uint64_t own_weight(const TopP& p, const T* logits, float largest, uint64_t least, int64_t begin,
                                               int64_t end, int64_t stride) {
  uint64_t sum = 0;
#pragma unroll 1
  for (int64_t i = begin; i < end; i += stride) {
    const uint64_t weight = token_weight(to_float(logits[i]), largest, p.temperature);
    if (weight >= least) sum += weight;
  }
  return sum;
}

template <class T>
__global__ void __launch_bounds__(256) top_p_kernel(TopP p) {
  auto& shared = simt::shared<TopPShared>();
  const int64_t row = blockIdx.x;
  const int thread = threadIdx.x;
  const T* logits = static_cast<const T*>(p.logits) + row * p.stride;

  float largest = -INFINITY;
  for (int64_t i = thread; i < p.vocabulary; i += kTopPThreads) largest = fmaxf(largest, to_float(logits[i]));
  largest = simt::warp_max(largest);
  if (thread % 32 == 0) shared.largest[thread / 32] = largest;
  simt::barrier();
  for (int warp = 0; warp < kTopPThreads / 32; ++warp) largest = fmaxf(largest, shared.largest[warp]);

  const uint64_t total = block_sum(shared, own_weight(p, logits, largest, 0, thread, p.vocabulary, kTopPThreads));
  const uint64_t wanted = wanted_weight(total, p.top_p);
  uint64_t least = 0, kept = total;
#pragma unroll 1
  for (int bit = 32; bit >= 0 && wanted < total; --bit) {
    const uint64_t bound = least | uint64_t{1} << bit;
    const uint64_t sum = block_sum(shared, own_weight(p, logits, largest, bound, thread, p.vocabulary, kTopPThreads));
    if (sum >= wanted) least = bound, kept = sum;
  }

  // Each thread a run of neighbours, so that running sums go in the order of the vocabulary.
  const int64_t run = (p.vocabulary + kTopPThreads - 1) / kTopPThreads, begin = thread * run;
  const int64_t end = begin + run < p.vocabulary ? begin + run : p.vocabulary;
  const uint64_t own = own_weight(p, logits, largest, least, begin, end, 1);
  shared.before[thread] = own;
  simt::barrier();
  uint64_t passed = 0;
  for (int other = 0; other < thread; ++other) passed += shared.before[other];
  const uint64_t drawn = drawn_weight(kept, p.stream, row);
  if (drawn < passed || drawn >= passed + own) return;
  for (int64_t i = begin; i < end; ++i) {
    const uint64_t weight = token_weight(to_float(logits[i]), largest, p.temperature);
    if (weight < least) continue;
    passed += weight;
    if (passed > drawn) {
      p.tokens[row] = static_cast<int32_t>(i);
      return;
    }
  }
}

inline int launch_top_p(const TopP& p, void* stream) {
  if (p.rows == 0) return 0;
  if (p.vocabulary == 0) return kInvalidValue;
  return for_float_type(p.type, [&](auto number) {
    return simt::launch(top_p_kernel<decltype(number)>, dim3(blocks_of(p.rows, 1)), kTopPThreads, stream, p);
  });
}

}  // namespace orrery::kernels
