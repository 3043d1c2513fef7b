#include "ops/norm_silu.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "orrery/error.h"
#include "support/compare.h"

namespace orrery::ops {
namespace {

at::Tensor plain(const at::Tensor& x, const at::Tensor& gamma) {
  const at::Tensor exact = x.to(at::kDouble);
  const at::Tensor length = exact.norm(2, {-1}, true).clamp_min(1e-12);
  return at::silu(exact / length * std::sqrt(static_cast<double>(x.size(-1))) * gamma.to(at::kDouble)).to(at::kFloat);
}

TEST(NormSiluTest, IsTheNormAndTheSilu) {
  at::manual_seed(0);
  for (const int64_t channels : {1, 3, 7, 16, 33, 96, 640}) {
    const at::Tensor x = at::randn({2, 5, 3, channels}), gamma = at::randn({channels}) * 3, y = at::empty_like(x);
    l2_norm_silu(x, gamma, y);
    EXPECT_TRUE(testing::is_close(y, plain(x, gamma), testing::kSameMath)) << channels;
    const at::Tensor same = x.clone();
    l2_norm_silu(same, gamma, same);
    EXPECT_TRUE(at::equal(same, y)) << channels;
  }
}

TEST(NormSiluTest, ExtremesStayFinite) {
  const at::Tensor x = at::tensor({0.f, 0.f, 1e-20f, -1e-20f, 1e15f, -1e15f}).view({3, 2}), y = at::empty({3, 2});
  const at::Tensor gamma = at::tensor({500.f, 500.f});  // to where exp would overflow
  l2_norm_silu(x, gamma, y);
  EXPECT_TRUE(testing::is_close(y, plain(x, gamma), testing::kSameMath)) << y;
}

TEST(FrameNormSiluTest, IsTheGroupNormAndTheSilu) {
  at::manual_seed(1);
  for (const int64_t channels : {1, 5, 16, 130}) {
    for (const int64_t rows : {1, 7, 600}) {
      const at::Tensor x = at::randn({3, rows, channels}) * 2 + 5, weight = at::randn({channels}),
                       bias = at::randn({channels});
      const at::Tensor exact = x.to(at::kDouble).transpose(1, 2);
      const at::Tensor normed = at::group_norm(exact, 1, weight.to(at::kDouble), bias.to(at::kDouble), 1e-6).transpose(1, 2);
      const at::Tensor y = at::empty_like(x);
      frame_norm_silu(x, weight, bias, 1e-6, y);
      EXPECT_TRUE(testing::is_close(y, at::silu(normed).to(at::kFloat), testing::kSameMath)) << channels << ", " << rows;
    }
  }
}

TEST(NormSiluTest, RefusesOtherTensors) {
  const at::Tensor x = at::randn({4, 6}), y = at::empty({4, 6});
  EXPECT_THROW(l2_norm_silu(x, at::ones({5}), y), Error);
  EXPECT_THROW(l2_norm_silu(x.to(at::kDouble), at::ones({6}), y), Error);
  EXPECT_THROW(l2_norm_silu(x.t(), at::ones({4}), at::empty({6, 4})), Error);
  EXPECT_THROW(l2_norm_silu(x, at::ones({6}), at::empty({6, 4})), Error);
}

}  // namespace
}  // namespace orrery::ops
