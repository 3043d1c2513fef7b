#include "kernels/int8_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/common/dispatch.h"

namespace orrery::kernels {
namespace {

template <class T>
void quantize_row(const QuantizeHeads& p, int64_t row) {
  const int64_t token = row % p.tokens, head = row / p.tokens % p.heads, batch = row / p.tokens / p.heads;
  const T* x = static_cast<const T*>(p.x) + batch * p.x_batch + token * p.x_token + head * p.width;
  const auto at = [&](int64_t i) {
    return to_float(x[i]) - (p.mean ? p.mean[(batch * p.heads + head) * p.width + i] : 0.0f);
  };
  float largest = 0;
  for (int64_t i = 0; i < p.width; ++i) {
    const float size = std::fabs(at(i));
    largest = std::max(largest, size < INFINITY ? size : INFINITY);  // NaN too
  }
  const bool finite = largest < INFINITY;
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  p.scale[row] = finite ? largest / 127.0f : NAN;
  for (int64_t i = 0; i < p.width; ++i)
    p.values[row * p.width + i] = static_cast<int8_t>(finite ? std::nearbyint(at(i) * inverse) : 0.0f);
}

template <class T>
void attend(const Int8Attention& p, int64_t row) {
  const int64_t token = row % p.queries, head = row / p.queries % p.heads, batch = row / p.queries / p.heads;
  const int8_t* query = p.query + row * p.width;
  const int64_t first_key = (batch * p.heads + head) * p.keys;
  std::vector<float> scores(static_cast<size_t>(p.keys));
  for (int64_t j = 0; j < p.keys; ++j) {
    int32_t sum = 0;
    for (int64_t c = 0; c < p.width; ++c) sum += query[c] * p.key[(first_key + j) * p.width + c];
    scores[j] = static_cast<float>(sum) * (p.query_scale[row] * p.key_scale[first_key + j]) * p.factor;
  }
  const float largest = *std::max_element(scores.begin(), scores.end());
  std::vector<double> sums(static_cast<size_t>(p.width));
  double total = 0;
  for (int64_t j = 0; j < p.keys; ++j) {
    const double weight = std::exp(static_cast<double>(scores[j]) - largest);
    const T* value = static_cast<const T*>(p.value) + batch * p.value_batch + j * p.value_token + head * p.width;
    total += weight;
    for (int64_t c = 0; c < p.width; ++c) sums[c] += weight * to_float(value[c]);
  }
  T* out = static_cast<T*>(p.out) + ((batch * p.queries + token) * p.heads + head) * p.width;
  for (int64_t c = 0; c < p.width; ++c) out[c] = from_float<T>(static_cast<float>(sums[c] / total));
}

}  // namespace

void quantize_heads_cpu(const QuantizeHeads& p, int64_t begin, int64_t end) {
  for_float_type(p.type, [&](auto number) {
    for (int64_t row = begin; row < end; ++row) quantize_row<decltype(number)>(p, row);
  });
}

void int8_attention_cpu(const Int8Attention& p, int64_t begin, int64_t end) {
  for_float_type(p.type, [&](auto number) {
    for (int64_t row = begin; row < end; ++row) attend<decltype(number)>(p, row);
  });
}

}  // namespace orrery::kernels
