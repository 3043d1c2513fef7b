#include "ops/head_norm.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "orrery/error.h"
#include "support/compare.h"

namespace orrery::ops {
namespace {

constexpr double kEps = 1e-5;

// The same in double precision, one step after the other.
at::Tensor plain(const at::Tensor& heads, const at::Tensor& weight, NormedOver over, const at::Tensor& cos,
                 const at::Tensor& sin, bool neighbours) {
  at::Tensor x = heads.to(at::kDouble);
  if (weight.defined()) {
    const at::Tensor rows = over == NormedOver::kHead ? x : x.flatten(2);
    const at::Tensor norm = rows / (rows.square().mean(-1, true) + kEps).sqrt() * weight.to(at::kDouble);
    x = norm.view(x.sizes());
  }
  if (!cos.defined()) return x;
  const int64_t half = x.size(-1) / 2;
  const at::Tensor c = cos.to(at::kDouble).unsqueeze(1), s = sin.to(at::kDouble).unsqueeze(1);
  const at::Tensor pairs = neighbours ? x.unflatten(-1, {half, 2}) : x.unflatten(-1, {2, half}).transpose(-1, -2);
  const at::Tensor a = pairs.select(-1, 0), b = pairs.select(-1, 1);
  const at::Tensor turned = at::stack({a * c - b * s, a * s + b * c}, -1);
  return (neighbours ? turned : turned.transpose(-1, -2)).reshape(x.sizes());
}

TEST(HeadNorm, EqualsItsPlainTwin) {
  at::manual_seed(0);
  for (const int64_t dim : {2, 6, 34, 128, 130})
    for (const NormedOver over : {NormedOver::kHead, NormedOver::kAllHeads})
      for (const bool normed : {true, false})
        for (const bool turned : {true, false})
          for (const bool neighbours : {true, false}) {
            const at::Tensor x = at::randn({2, 7, 3, dim});
            const at::Tensor weight = normed ? at::randn({over == NormedOver::kHead ? dim : 3 * dim}) : at::Tensor();
            const at::Tensor angles = at::randn({7, dim / 2});
            const at::Tensor cos = turned ? angles.cos() : at::Tensor(), sin = turned ? angles.sin() : at::Tensor();
            EXPECT_TRUE(testing::is_close(head_norm(x, weight, over, kEps, cos, sin, neighbours).to(at::kDouble),
                                          plain(x, weight, over, cos, sin, neighbours), testing::kSameMath))
                << dim << (normed ? " normed" : "") << (turned ? " turned" : "") << (neighbours ? " neighbours" : "");
          }
}

TEST(HeadNorm, RefusesShapesThatDoNotFit) {
  const at::Tensor x = at::ones({1, 5, 2, 6}), angles = at::ones({5, 3});
  EXPECT_THROW(head_norm(x, at::ones({5}), NormedOver::kHead, kEps, {}, {}, true), Error);
  EXPECT_THROW(head_norm(x, at::ones({6}), NormedOver::kAllHeads, kEps, {}, {}, true), Error);
  EXPECT_THROW(head_norm(x, {}, NormedOver::kHead, kEps, at::ones({4, 3}), angles, true), Error);
  EXPECT_THROW(head_norm(x, {}, NormedOver::kHead, kEps, angles, {}, true), Error);
  EXPECT_THROW(head_norm(x.to(at::kDouble), {}, NormedOver::kHead, kEps, angles, angles, true), Error);
}

TEST(GeluTanh, EqualsLibTorchsInDoublePrecisionAndIsFiniteFarOut) {
  const at::Tensor x = at::cat({at::linspace(-12, 12, 1003), at::tensor({-1e4f, 1e4f, -3e38f, 3e38f, 0.0f})});
  const at::Tensor expected = at::gelu(x.to(at::kDouble), "tanh");
  const at::Tensor actual = gelu_tanh(x.clone());
  EXPECT_TRUE(testing::is_close(actual.narrow(0, 0, 1003).to(at::kDouble), expected.narrow(0, 0, 1003), testing::kSameMath));
  EXPECT_TRUE(actual.narrow(0, 1003, 5).equal(at::tensor({0.0f, 1e4f, 0.0f, 3e38f, 0.0f})));
}

}  // namespace
}  // namespace orrery::ops
