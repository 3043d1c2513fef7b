#pragma once

#include "kernels/common/dispatch.h"
#include "kernels/cuda/device/warp.h"
#include "kernels/qk_norm_rope.h"

// One warp a head of a token, or a whole token where the norm runs over all its heads. A lane turns two pairs of channels at
// a time, which are four neighbours, or two and two that lie half a head apart: the accesses of a warp join without gaps.
namespace orrery::kernels {

template <class T>
__device__ __forceinline__ float rms_factor(const T* x, int64_t count, float epsilon) {
  float squares = 0;
  for (int64_t i = threadIdx.x % 32 * 2; i < count; i += 64) {
    const auto pair = *reinterpret_cast<const simt::Vector<T, 2>*>(x + i);
    squares += to_float(pair.at[0]) * to_float(pair.at[0]) + to_float(pair.at[1]) * to_float(pair.at[1]);
  }
  return 1.0f / sqrtf(simt::warp_sum(squares) / static_cast<float>(count) + epsilon);
}

template <class T>
__global__ void __launch_bounds__(256) qk_norm_rope_kernel(QkNormRope p) {
  using Pair = simt::Vector<T, 2>;
  const int64_t item = int64_t{blockIdx.x} * 8 + threadIdx.x / 32;
  const int64_t heads_each = p.over_all_heads ? p.heads : 1, items = p.tokens * p.heads / heads_each;
  if (item >= p.batch * items) return;
  const int64_t batch = item / items, within = item - batch * items;
  const int64_t token = p.over_all_heads ? within : within / p.heads,
                head0 = p.over_all_heads ? 0 : within - token * p.heads;
  const T* x = static_cast<const T*>(p.x) + batch * p.x_batch + token * p.x_token + head0 * p.width;
  T* out = static_cast<T*>(p.out) + batch * p.out_batch + token * p.out_token + head0 * p.out_head;
  const int64_t half = p.width / 2;
  const float factor = p.weight ? rms_factor(x, heads_each * p.width, p.epsilon) : 1.0f;

  for (int64_t head = 0; head < heads_each; ++head, x += p.width, out += p.out_head) {
    const float* weight = p.weight ? p.weight + head * p.width : nullptr;
    for (int64_t i = threadIdx.x % 32 * 2; i < half; i += 64) {
      // Elements a, a + 1 and b, b + 1: of pairs i and i + 1 the first and the second channels, or pair i and pair i + 1.
      const int64_t a = p.neighbours ? 2 * i : i, b = p.neighbours ? a + 2 : i + half;
      const Pair from_a = *reinterpret_cast<const Pair*>(x + a), from_b = *reinterpret_cast<const Pair*>(x + b);
      float va[2], vb[2];
      for (int k = 0; k < 2; ++k) {
        va[k] = to_float(from_a.at[k]) * factor * (weight ? weight[a + k] : 1.0f);
        vb[k] = to_float(from_b.at[k]) * factor * (weight ? weight[b + k] : 1.0f);
      }
      if (p.cos) {
        const auto c = *reinterpret_cast<const simt::Vector<float, 2>*>(p.cos + token * half + i);
        const auto s = *reinterpret_cast<const simt::Vector<float, 2>*>(p.sin + token * half + i);
        if (p.neighbours) {
          const float a0 = va[0], b0 = vb[0];
          va[0] = a0 * c.at[0] - va[1] * s.at[0];
          va[1] = va[1] * c.at[0] + a0 * s.at[0];
          vb[0] = b0 * c.at[1] - vb[1] * s.at[1];
          vb[1] = vb[1] * c.at[1] + b0 * s.at[1];
        } else {
          for (int k = 0; k < 2; ++k) {
            const float first = va[k];
            va[k] = first * c.at[k] - vb[k] * s.at[k];
            vb[k] = vb[k] * c.at[k] + first * s.at[k];
          }
        }
      }
      *reinterpret_cast<Pair*>(out + a) = {from_float<T>(va[0]), from_float<T>(va[1])};
      *reinterpret_cast<Pair*>(out + b) = {from_float<T>(vb[0]), from_float<T>(vb[1])};
    }
  }
}

inline int launch_qk_norm_rope(const QkNormRope& p, void* stream) {
  const int64_t items = p.batch * p.tokens * (p.over_all_heads ? 1 : p.heads);
  if (items == 0 || p.width == 0) return 0;
  return for_float_type(p.type, [&](auto number) {
    return simt::launch(qk_norm_rope_kernel<decltype(number)>, dim3(blocks_of(items, 8)), 256, stream, p);
  });
}

}  // namespace orrery::kernels
