#include "layers/temporal_conv.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <tuple>
#include <vector>

#include "support/compare.h"

namespace orrery {
namespace {

// The formula in double, a frame at a time.
at::Tensor formula(const at::Tensor& past, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor before = past.defined() ? past : x.slice(0, 0, 1).expand({2, -1, -1, -1, -1});
  const at::Tensor seen = at::cat({before, x}).to(at::kDouble), taps = weight.to(at::kDouble);
  std::vector<at::Tensor> frames;
  for (int64_t n = 0; n < x.size(0); ++n) {
    at::Tensor sum = bias.to(at::kDouble);
    for (int64_t tap = 0; tap < 3; ++tap) sum = sum + at::matmul(seen[n + tap], taps.select(2, tap).t());
    frames.push_back(sum);
  }
  return at::stack(frames);
}

class TemporalConvTest : public ::testing::TestWithParam<std::tuple<int64_t, bool>> {};

TEST_P(TemporalConvTest, IsItsFormula) {
  const auto [frames, starts] = GetParam();
  at::manual_seed(frames);
  // 7 x 301 rows of 65 channels are more than one block of rows, and the last is short.
  const at::Tensor x = at::randn({frames, 1, 7, 301, 65}), past = starts ? at::Tensor() : at::randn({2, 1, 7, 301, 65});
  const at::Tensor weight = at::randn({33, 65, 3}), bias = at::randn({33});
  ASSERT_TRUE(layers::takes_temporal_conv(x, 3, 1));
  EXPECT_TRUE(testing::is_close(layers::temporal_conv(past, x, weight, bias), formula(past, x, weight, bias),
                                testing::kSameMath));
  const at::Tensor turned = x.transpose(2, 3);  // rows that do not lie one after another
  const at::Tensor turned_past = starts ? past : past.transpose(2, 3);
  EXPECT_TRUE(testing::is_close(layers::temporal_conv(turned_past, turned, weight, bias),
                                formula(turned_past, turned, weight, bias), testing::kSameMath));
}

INSTANTIATE_TEST_SUITE_P(Frames, TemporalConvTest,
                         ::testing::Combine(::testing::Values(1, 2, 3, 4, 5), ::testing::Bool()));

TEST(TemporalConvTest, NoFramesGiveNone) {
  const at::Tensor y = layers::temporal_conv({}, at::empty({0, 1, 2, 2, 4}), at::ones({3, 4, 3}), at::ones({3}));
  EXPECT_EQ(y.sizes(), (at::IntArrayRef{0, 1, 2, 2, 3}));
}

TEST(TemporalConvTest, OtherConvolutionsAreNotTaken) {
  const at::Tensor x = at::empty({1, 1, 2, 2, 4});
  EXPECT_FALSE(layers::takes_temporal_conv(x, 3, 2));
  EXPECT_FALSE(layers::takes_temporal_conv(x, 2, 1));
  EXPECT_FALSE(layers::takes_temporal_conv(x.to(at::kBFloat16), 3, 1));
}

}  // namespace
}  // namespace orrery
