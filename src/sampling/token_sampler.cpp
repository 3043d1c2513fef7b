#include "sampling/token_sampler.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "orrery/error.h"
#include "sampling/noise.h"

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

// A number in (0, 1] that depends on nothing but its key: Box and Muller's radius of two normals, taken back.
double uniform(uint64_t seed, int64_t row, int64_t position) {
  const at::Tensor pair =
      normal_noise({2}, {.seed = seed, .frame = static_cast<uint32_t>(position), .step = static_cast<uint32_t>(row)});
  const double x = pair.const_data_ptr<float>()[0], y = pair.const_data_ptr<float>()[1];
  return std::exp(-(x * x + y * y) / 2);
}

// Which of falling probabilities is drawn: those count before which at most `top_p` has gathered.
int64_t draw(const float* falling, int64_t count, double top_p, double u) {
  double before = 0;
  int64_t kept = 0;
  while (kept < count && before <= top_p) before += falling[kept++];
  double left = u * before;
  for (int64_t i = 0; i < kept; ++i)
    if ((left -= falling[i]) < 0) return i;
  return kept - 1;  // the rounding of the sums
}

}  // namespace

at::Tensor sample_tokens(const at::Tensor& logits, const TokenSampling& sampling, int64_t position) {
  const at::Tensor scores = logits.to(at::kFloat);
  if (!std::isfinite(scores.sum(at::kDouble).item<double>()))
    throw Error(ErrorKind::kWeights, {.place = "token " + std::to_string(position),
                                      .what = "the logits are not finite (NaN or infinity)",
                                      .hint = "the checkpoint is damaged, or overflows in this --dtype"});
  if (sampling.greedy) return scores.argmax(-1);

  const int64_t all = scores.size(1), count = sampling.top_k > 0 ? std::min(sampling.top_k, all) : all;
  const at::Tensor scaled = scores / sampling.temperature;
  const auto [falling, ids] = count < all ? scaled.topk(count) : scaled.sort(/*dim=*/-1, /*descending=*/true);
  const at::Tensor probabilities = falling.softmax(-1).cpu().contiguous();  // [B,count], falling
  at::Tensor chosen = at::empty({scores.size(0), 1}, at::kLong);
  for (int64_t row = 0; row < scores.size(0); ++row)
    chosen.data_ptr<int64_t>()[row] =
        draw(probabilities.data_ptr<float>() + row * count, count, sampling.top_p, uniform(sampling.seed, row, position));
  return ids.gather(1, chosen.to(ids.device())).squeeze(1);
}

}  // namespace sampling
}  // namespace orrery
