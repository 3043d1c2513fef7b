#pragma once

#include <cstdint>

#include "kernels/common/numbers.h"
#include "kernels/common/philox.h"

namespace orrery::kernels {

/// Draws one token a row from logits [rows, vocabulary]: probabilities softmax(logits / temperature), of which the likeliest
/// are kept until their sum reaches `top_p`, ties with the last kept one included; then the token where the running sum of
/// the kept, in the order of the vocabulary, passes a uniform number. Probabilities are counted in units of 2⁻³² of the
/// largest, so that every sum is exact and all machines draw the same token.
struct TopP {
  Number type = Number::kFloat32;
  int64_t rows = 0, vocabulary = 0, stride = 0;
  const void* logits = nullptr;
  int32_t* tokens = nullptr;  ///< [rows]
  float temperature = 1;      ///< above 0
  float top_p = 1;            ///< in (0, 1]
  NoiseStream stream{};       ///< row r takes the first word of the generator's block r
};

/// The weight of a logit beside the largest one: 2³² for itself, whole, never above.
ORRERY_EVERYWHERE uint64_t token_weight(float logit, float largest, float temperature) {
  const float x = exact::sub(logit, largest);
  const float scaled = static_cast<float>(exact::divide(static_cast<double>(x), static_cast<double>(temperature)));
  return static_cast<uint64_t>(exact::mul(static_cast<double>(exact::exp_of_nonpositive(scaled)), 4294967296.0));
}

/// How much weight must be kept of a total; 0 of nothing, which is what a row without a finite largest logit weighs.
ORRERY_EVERYWHERE uint64_t wanted_weight(uint64_t total, float top_p) {
  const auto wanted = static_cast<uint64_t>(exact::mul(static_cast<double>(total), static_cast<double>(top_p)));
  return wanted < total ? (wanted < 1 ? 1 : wanted) : total;
}

/// Where in a kept total the row's uniform number lies: below it.
ORRERY_EVERYWHERE uint64_t drawn_weight(uint64_t kept, const NoiseStream& stream, int64_t row) {
  const auto block = static_cast<uint64_t>(row);
  const Philox bits = philox4x32_10(
      {{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), stream.step, stream.frame}}, stream.seed);
  const uint64_t high = (kept >> 32) * bits.words[0], low = (kept & 0xFFFFFFFF) * bits.words[0];
  return high + (low >> 32);
}

/// Rows [begin, end) on the CPU.
void top_p_cpu(const TopP& p, int64_t begin, int64_t end);

}  // namespace orrery::kernels

/// On the GPU; the CUDA error, 0 if there is none.
extern "C" int orrery_cuda_top_p(const orrery::kernels::TopP* p, void* stream);
