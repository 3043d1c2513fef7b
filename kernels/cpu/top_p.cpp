#include "kernels/top_p.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "kernels/common/dispatch.h"

namespace orrery::kernels {
namespace {

template <class T>
int32_t draw(const TopP& p, int64_t row) {
  const T* logits = static_cast<const T*>(p.logits) + row * p.stride;
  float largest = to_float(logits[0]);
  for (int64_t i = 1; i < p.vocabulary; ++i) largest = std::max(largest, to_float(logits[i]));
  std::vector<uint64_t> weights(static_cast<size_t>(p.vocabulary));
  uint64_t total = 0;
  for (int64_t i = 0; i < p.vocabulary; ++i) total += weights[i] = token_weight(to_float(logits[i]), largest, p.temperature);
  std::vector<uint64_t> sorted = weights;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  uint64_t sum = 0, least = 0;
  const uint64_t wanted = wanted_weight(total, p.top_p);
  for (size_t i = 0; sum < wanted; ++i) sum += least = sorted[i];
  uint64_t kept = 0;
  for (const uint64_t weight : weights) kept += weight >= least ? weight : 0;
  const uint64_t drawn = drawn_weight(kept, p.stream, row);
  uint64_t passed = 0;
  for (int64_t i = 0; i < p.vocabulary; ++i) {
    passed += weights[i] >= least ? weights[i] : 0;
    if (passed > drawn) return static_cast<int32_t>(i);
  }
  return 0;
}

}  // namespace

void top_p_cpu(const TopP& p, int64_t begin, int64_t end) {
  for_float_type(p.type, [&](auto number) {
    for (int64_t row = begin; row < end; ++row) p.tokens[row] = draw<decltype(number)>(p, row);
  });
}

}  // namespace orrery::kernels
