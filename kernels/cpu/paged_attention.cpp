#include "kernels/paged_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/common/dispatch.h"

namespace orrery::kernels {
namespace {

// q · key, the key turned on its way and rounded as the GPU's is.
template <class T>
float product(const PagedAttention& p, const T* query, const T* key, int64_t i) {
  const int64_t half = p.width / 2;
  double sum = 0;
  for (int64_t pair = 0; pair < half; ++pair) {
    const int64_t first = p.neighbours ? 2 * pair : pair, second = p.neighbours ? 2 * pair + 1 : pair + half;
    float a = to_float(key[first]), b = to_float(key[second]);
    if (p.cos) {
      const float c = p.cos[i * half + pair], s = p.sin[i * half + pair], turned = a * c - b * s;
      b = to_float(from_float<T>(b * c + a * s));
      a = to_float(from_float<T>(turned));
    }
    sum += static_cast<double>(a) * to_float(query[first]) + static_cast<double>(b) * to_float(query[second]);
  }
  return static_cast<float>(sum * p.scale);
}

template <class T>
void attend(const PagedAttention& p, int64_t row) {
  const int64_t head = row % p.heads, token = row / p.heads % p.queries, sequence = row / p.heads / p.queries;
  const int64_t kv_head = head / (p.heads / p.kv_heads);
  const T* query = static_cast<const T*>(p.query) + sequence * p.query_batch + token * p.query_token + head * p.width;
  std::vector<float> scores(static_cast<size_t>(p.visible));
  float largest = -INFINITY;
  for (int64_t i = 0; i < p.visible; ++i) {
    scores[i] = product(p, query, static_cast<const T*>(p.keys) + place_of_visible(p, p.key_pages, sequence, kv_head, i), i);
    largest = std::max(largest, scores[i]);
  }
  std::vector<double> sums(static_cast<size_t>(p.width));
  double total = 0;
  for (int64_t i = 0; i < p.visible; ++i) {
    const double weight = std::exp(static_cast<double>(scores[i]) - largest);
    const T* value = static_cast<const T*>(p.values) + place_of_visible(p, p.value_pages, sequence, kv_head, i);
    total += weight;
    for (int64_t c = 0; c < p.width; ++c) sums[c] += weight * to_float(value[c]);
  }
  T* out = static_cast<T*>(p.out) + row * p.width;
  for (int64_t c = 0; c < p.width; ++c) out[c] = from_float<T>(static_cast<float>(sums[c] / total));
}

}  // namespace

void paged_attention_cpu(const PagedAttention& p, int64_t begin, int64_t end) {
  for_float_type(p.type, [&](auto number) {
    for (int64_t row = begin; row < end; ++row) attend<decltype(number)>(p, row);
  });
}

}  // namespace orrery::kernels
