#include "ops/qk_norm_rope.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/machines.h"

namespace orrery::testing {
namespace {

using ::testing::HasSubstr;

at::Tensor formula(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& cos, const at::Tensor& sin,
                   const ops::QkNormRopeForm& form) {
  at::Tensor y = x.to(at::kDouble);
  const at::Tensor square = y.square();
  y = y / ((form.over_all_heads ? square.mean({-2, -1}, true) : square.mean(-1, true)) + form.epsilon).sqrt() * weight;
  const at::Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);
  const int64_t half = x.size(-1) / 2;
  const at::Tensor pairs = form.neighbours ? y.unflatten(-1, {half, 2}) : y.unflatten(-1, {2, half}).transpose(-1, -2);
  const at::Tensor a = pairs.select(-1, 0), b = pairs.select(-1, 1);
  const at::Tensor turned = at::stack({a * c - b * s, a * s + b * c}, -1);
  const at::Tensor out = (form.neighbours ? turned : turned.transpose(-1, -2)).flatten(-2);
  return form.heads_first ? out.transpose(1, 2) : out;
}

TEST(QkNormRopeTest, IsTheFormulaForEveryFormDtypeAndMachine) {
  at::manual_seed(2);
  for (const auto& [batch, tokens, heads, width] :
       {std::tuple{1, 1, 1, 4}, {2, 5, 3, 20}, {1, 3, 2, 128}, {0, 3, 2, 8}, {2, 0, 1, 4}}) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      for (int bits = 0; bits < 8; ++bits) {
        const ops::QkNormRopeForm form{(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0};
        // The middle part of a joint projection of queries, keys and values.
        const at::Tensor x = at::randn({batch, tokens, 3, heads, width}).to(type).select(2, 1);
        const at::Tensor weight = form.over_all_heads ? at::randn({heads, width}) : at::randn({width});
        const at::Tensor angles = at::randn({tokens, width / 2}), cos = angles.cos(), sin = angles.sin();
        expect_on_all_machines(formula(x, weight, cos, sin, form), [&](const Bring& on) {
          return ops::qk_norm_rope(on(x), on(weight), on(cos), on(sin), form);
        });
      }
    }
  }
}

TEST(QkNormRopeTest, LeavesOutWhatIsNotGiven) {
  const at::Tensor x = at::randn({1, 3, 2, 8});
  expect_on_all_machines(x.transpose(1, 2).to(at::kDouble),
                         [&](const Bring& on) { return ops::qk_norm_rope(on(x), {}, {}, {}, {.heads_first = true}); });
}

TEST(QkNormRopeTest, RefusesByName) {
  const at::Tensor x = at::randn({1, 3, 2, 8});
  EXPECT_THAT(error_of([&] { return ops::qk_norm_rope(x.narrow(3, 0, 6), {}, {}, {}, {}); }),
              HasSubstr("multiple of 4 channels"));
  EXPECT_THAT(error_of([&] { return ops::qk_norm_rope(x.transpose(1, 2), {}, {}, {}, {}); }),
              HasSubstr("x: must have the heads of a token side by side"));
  EXPECT_THAT(error_of([&] { return ops::qk_norm_rope(x, at::ones({4}), {}, {}, {}); }),
              HasSubstr("weight: has the wrong shape; expected [8], got [4]"));
  EXPECT_THAT(error_of([&] {
                return ops::qk_norm_rope(x, {}, at::ones({3, 4}), {}, {});
              }),
              HasSubstr("sin: must come with cos"));
}

}  // namespace
}  // namespace orrery::testing
