#include "sampling/token_sampler.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <string>

#include "ops/dispatch.h"
#include "ops/top_p.h"
#include "orrery/error.h"

namespace orrery {
namespace {

[[noreturn]] void refuse(const char* what, const std::string& expected, double got, const std::string& hint = {}) {
  throw Error(ErrorKind::kArgument,
              {.place = what, .what = "is out of range", .expected = expected, .got = std::to_string(got), .hint = hint});
}

}  // namespace

void TokenSampling::check() const {
  if (greedy) return;
  if (!(temperature > 0) || !std::isfinite(temperature))
    refuse("temperature", "a number above 0", temperature, "--greedy takes the most likely token each time");
  if (!(top_p > 0 && top_p <= 1)) refuse("top_p", "above 0 and at most 1", top_p);
  if (top_k < 0) refuse("top_k", "0 (all tokens) or more", static_cast<double>(top_k));
}

namespace sampling {

namespace {

at::Tensor sum_of(const at::Tensor& logits) {
  return logits.to(at::kFloat).sum(at::kDouble);
}

void require_finite(double sum, int64_t position) {
  if (std::isfinite(sum)) return;
  throw Error(ErrorKind::kWeights, {.place = "token " + std::to_string(position),
                                    .what = "the logits are not finite (NaN or infinity)",
                                    .hint = "the checkpoint is damaged, or overflows in this --dtype"});
}

}  // namespace

void FiniteLogits::add(const at::Tensor& logits, int64_t position) {
  if (logits.is_cpu()) return require_finite(sum_of(logits).item<double>(), position);
  if (sums_.empty()) first_ = position;
  sums_.push_back(sum_of(logits));
}

void FiniteLogits::finish() {
  if (sums_.empty()) return;
  const at::Tensor sums = at::stack(sums_).cpu();
  sums_.clear();
  for (int64_t i = 0; i < sums.size(0); ++i) require_finite(sums[i].item<double>(), first_ + i);
}

at::Tensor sample_tokens(const at::Tensor& logits, const TokenSampling& sampling, int64_t position) {
  FiniteLogits finite;
  finite.add(logits, position);
  finite.finish();
  return draw_tokens(logits, sampling, position);
}

at::Tensor draw_tokens(const at::Tensor& logits, const TokenSampling& sampling, int64_t position) {
  const at::Tensor scores = logits.to(at::kFloat);
  if (sampling.greedy) return scores.argmax(-1);

  at::Tensor possible = scores;
  if (sampling.top_k > 0 && sampling.top_k < scores.size(1)) {
    const at::Tensor least = std::get<0>(scores.topk(sampling.top_k)).narrow(1, sampling.top_k - 1, 1);
    possible = scores.masked_fill(scores.lt(least), -std::numeric_limits<double>::infinity());
  }
  // Row r of position p takes block r of the seed's frame p: the same token on every device.
  const auto draw = [&](const at::Tensor& logits) {
    return ops::top_p(logits.contiguous(), sampling.temperature, sampling.top_p,
                      {.seed = sampling.seed, .frame = static_cast<uint32_t>(position)});
  };
  if (scores.is_cpu() || ops::on_device_with_kernels(scores)) return draw(possible).to(at::kLong);
  return draw(possible.cpu()).to(scores.device(), at::kLong);
}

}  // namespace sampling
}  // namespace orrery
