#include "ops/small_convolution.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <array>

#include "orrery/error.h"
#include "support/compare.h"

namespace orrery {
namespace {

using Form = ops::SmallConvolution::Form;

float* of(const at::Tensor& tensor) {
  return tensor.mutable_data_ptr<float>();
}

// x [side,side,in] → [side,side,out], added to `out` where `then` says so.
void convolve(const ops::SmallConvolution& conv, const at::Tensor& x, const at::Tensor& out, ops::Then then) {
  ops::Workspace memory;
  float* const picture = conv.picture(memory);
  for (int64_t row = 0; row < x.size(0); ++row)
    for (int64_t column = 0; column < x.size(1); ++column)
      std::copy_n(of(x) + (row * x.size(1) + column) * x.size(2), x.size(2), picture + conv.at(row, column));
  conv(picture, of(out), then);
}

TEST(SmallConvolutionTest, EveryFormEqualsLibTorchs) {
  at::manual_seed(9);
  for (const auto& [side, in, out] : {std::array<int64_t, 3>{16, 30, 64}, {8, 33, 8}, {13, 16, 17}, {5, 3, 2}, {33, 20, 12}})
    for (const Form form : {Form::kDirect, Form::kWinograd, Form::kTiles, Form::kFaster}) {
      const at::Tensor weight = (at::randn({out, in, 3, 3}) / 10).to(at::kBFloat16).to(at::kFloat), bias = at::randn({out}),
                       x = at::randn({side, side, in});
      const at::Tensor expected =
          at::conv2d(x.permute({2, 0, 1}).unsqueeze(0), weight, bias, 1, 1).squeeze(0).permute({1, 2, 0});
      const ops::SmallConvolution conv(weight, bias, side, form);
      EXPECT_EQ(conv.columns(), out);
      const at::Tensor y = at::empty({side, side, out});
      convolve(conv, x, y, ops::Then::kStore);
      EXPECT_TRUE(testing::is_close(y, expected, testing::kComponentParity)) << side << ' ' << in << ' ' << out;
      convolve(conv, x, y, ops::Then::kAdd);
      EXPECT_TRUE(testing::is_close(y, 2 * expected, testing::kComponentParity)) << side << ' ' << in << ' ' << out;
    }
}

TEST(SmallConvolutionTest, WhatGoesBeforeItIsAppliedInEveryForm) {
  at::manual_seed(10);
  const int64_t side = 9, in = 37, out = 37;
  const at::Tensor weight = (at::randn({out, in, 3, 3}) / 10).to(at::kBFloat16).to(at::kFloat), bias = at::randn({out}),
                   x = at::randn({side, side, in}), scale = at::randn({in}), shift = at::randn({in});
  const auto expected = [&](const at::Tensor& seen) {
    return at::conv2d(at::silu(seen).permute({2, 0, 1}).unsqueeze(0), weight, bias, 1, 1).squeeze(0).permute({1, 2, 0});
  };
  for (const Form form : {Form::kDirect, Form::kWinograd, Form::kTiles}) {
    const ops::SmallConvolution conv(weight, bias, side, form);
    const at::Tensor y = at::empty({side, side, out}), same = x.clone();
    conv.after_silu(of(x), of(y), ops::Then::kStore, {of(scale), of(shift)});
    EXPECT_TRUE(testing::is_close(y, expected(x * scale + shift), testing::kComponentParity));
    conv.after_silu(of(same), of(same), ops::Then::kAdd);
    EXPECT_TRUE(testing::is_close(same, x + expected(x), testing::kComponentParity));
  }
}

TEST(SmallConvolutionTest, LargePicturesTakeWinogradsForm) {
  const at::Tensor weight = at::randn({128, 128, 3, 3}), bias = at::randn({128});
  EXPECT_EQ(ops::SmallConvolution(weight, bias, 16).border(), 0);
  EXPECT_EQ(ops::SmallConvolution(weight, bias, 8).border(), 1);
  const at::Tensor smaller = weight.slice(0, 0, 64).slice(1, 0, 64);
  EXPECT_EQ(ops::SmallConvolution(smaller, bias.slice(0, 0, 64), 8).border(), 0);
  EXPECT_EQ(ops::SmallConvolution(smaller, bias.slice(0, 0, 64), 4).border(), 1);
}

TEST(SmallConvolutionTest, ShapesThatDoNotFitAreRefused) {
  EXPECT_THROW(ops::SmallConvolution(at::randn({4, 3, 5, 5}), at::randn({4}), 8), Error);
  EXPECT_THROW(ops::SmallConvolution(at::randn({4, 3, 3, 3}), at::randn({3}), 8), Error);
}

}  // namespace
}  // namespace orrery
