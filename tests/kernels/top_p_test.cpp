#include "ops/top_p.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/machines.h"

namespace orrery::testing {
namespace {

using ::testing::HasSubstr;

TEST(TopPTest, EveryMachineDrawsTheSameTokens) {
  at::manual_seed(6);
  for (const auto& [rows, vocabulary] : {std::pair{1, 1}, {7, 5}, {3, 257}, {2, 1001}, {0, 9}}) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const at::Tensor logits = (at::randn({rows, 2 * vocabulary}) * 4).to(type).narrow(1, 0, vocabulary);
      for (const double top_p : {1.0, 0.9, 0.01}) {
        const at::Tensor expected = ops::top_p(logits, 0.7, top_p, {.seed = 3, .step = 2});
        for (const Machine& machine : machines())
          EXPECT_TRUE(
              machine.run([&](const Bring& on) { return ops::top_p(on(logits), 0.7, top_p, {.seed = 3, .step = 2}); })
                  .equal(expected))
              << machine.name << " " << vocabulary;
      }
    }
  }
}

// 20000 draws from one row: as often as the formula says, and never outside the nucleus.
TEST(TopPTest, DrawsByProbability) {
  const at::Tensor logits = at::tensor({0.5f, 2.0f, -INFINITY, 1.0f, 2.0f, -3.0f}),
                   p = (logits.to(at::kDouble) / 1.3).softmax(0);
  constexpr int64_t kDraws = 20000;
  for (const double top_p : {1.0, 0.75}) {
    // The nucleus of 0.75: the two tokens at 2 hold 0.62 of the probability, so the one at 1 is needed.
    const at::Tensor kept = top_p == 1.0 ? p : at::where(logits >= 1.0, p, 0.0), wanted = kept / kept.sum();
    const at::Tensor drawn = ops::top_p(logits.expand({kDraws, 6}).contiguous(), 1.3, top_p, {.seed = 8}).to(at::kLong);
    const at::Tensor counts = at::bincount(drawn, {}, 6).to(at::kDouble);
    for (int i = 0; i < 6; ++i) {
      const double q = wanted[i].item<double>();
      EXPECT_NEAR(counts[i].item<double>(), q * kDraws, 5 * std::sqrt(q * (1 - q) * kDraws)) << i << " of " << top_p;
    }
  }
}

TEST(TopPTest, RefusesByName) {
  const at::Tensor logits = at::randn({2, 3});
  EXPECT_THAT(error_of([&] { return ops::top_p(logits.t(), 1, 1, {}); }),
              HasSubstr("top_p: logits: must have the elements"));
  for (const float bad : {NAN, INFINITY, -INFINITY})
    EXPECT_THAT(error_of([&] {
                  return ops::top_p(at::full({2, 3}, bad), 1, 1, {});
                }),
                HasSubstr("have no finite largest one"));
  EXPECT_THAT(error_of([&] { return ops::top_p(logits, 0, 1, {}); }), HasSubstr("temperature: must be positive"));
  EXPECT_THAT(error_of([&] { return ops::top_p(logits, 1, 1.5, {}); }), HasSubstr("top_p: must be a part of one"));
  EXPECT_THAT(error_of([&] { return ops::top_p(logits.narrow(1, 0, 0), 1, 1, {}); }), HasSubstr("must have a vocabulary"));
}

}  // namespace
}  // namespace orrery::testing
