#include "kernels/qk_norm_rope.h"

#include <cmath>

#include "kernels/common/dispatch.h"

namespace orrery::kernels {
namespace {

template <class T>
float norm_factor(const T* x, int64_t count, float epsilon) {
  double squares = 0;
  for (int64_t i = 0; i < count; ++i) squares += static_cast<double>(to_float(x[i])) * to_float(x[i]);
  return static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(count) + epsilon));
}

template <class T>
void turn_token(const QkNormRope& p, int64_t batch, int64_t token) {
  const T* x = static_cast<const T*>(p.x) + batch * p.x_batch + token * p.x_token;
  T* out = static_cast<T*>(p.out) + batch * p.out_batch + token * p.out_token;
  const int64_t half = p.width / 2;
  float factor = p.weight && p.over_all_heads ? norm_factor(x, p.heads * p.width, p.epsilon) : 1.0f;
  for (int64_t head = 0; head < p.heads; ++head, x += p.width, out += p.out_head) {
    const float* weight = p.weight ? p.weight + (p.over_all_heads ? head * p.width : 0) : nullptr;
    if (weight && !p.over_all_heads) factor = norm_factor(x, p.width, p.epsilon);
    for (int64_t i = 0; i < half; ++i) {
      const int64_t first = p.neighbours ? 2 * i : i, second = p.neighbours ? 2 * i + 1 : i + half;
      float a = to_float(x[first]) * factor, b = to_float(x[second]) * factor;
      if (weight) a *= weight[first], b *= weight[second];
      const float c = p.cos ? p.cos[token * half + i] : 1.0f, s = p.cos ? p.sin[token * half + i] : 0.0f;
      out[first] = from_float<T>(a * c - b * s);
      out[second] = from_float<T>(b * c + a * s);
    }
  }
}

}  // namespace

void qk_norm_rope_cpu(const QkNormRope& p, int64_t begin, int64_t end) {
  for_float_type(p.type, [&](auto number) {
    for (int64_t i = begin; i < end; ++i) turn_token<decltype(number)>(p, i / p.tokens, i % p.tokens);
  });
}

}  // namespace orrery::kernels
