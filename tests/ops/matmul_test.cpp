#include "ops/matmul.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "orrery/error.h"
#include "support/compare.h"

namespace orrery::ops {
namespace {

at::Tensor plain(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor product = at::matmul(input.to(at::kDouble), weight.to(at::kDouble).t());
  return bias.defined() ? product + bias.to(at::kDouble) : product;
}

struct Shape {
  int64_t rows, depth, columns;
};

// Odd in every way: less than a tile, half a panel, more than a block of columns or of depth.
const Shape kShapes[] = {{9, 1, 1},      {13, 7, 33},  {37, 65, 71},    {50, 515, 17},
                         {26, 130, 273}, {12, 64, 32}, {301, 1030, 90}, {1027, 3075, 40}};

TEST(Matmul, EqualsTheDoublePrecisionProduct) {
  at::manual_seed(0);
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kFloat8_e4m3fn})
    for (const auto& [rows, depth, columns] : kShapes)
      for (const bool with_bias : {false, true}) {
        const at::Tensor input = at::randn({rows, depth}), weight = at::randn({columns, depth}).to(dtype);
        const at::Tensor bias = with_bias ? at::randn({columns}) : at::Tensor();
        ASSERT_TRUE(takes_matmul(input, weight));
        EXPECT_TRUE(testing::is_close(matmul(input, weight, {}, bias).to(at::kDouble), plain(input, weight, bias),
                                      testing::kSameMath))
            << rows << " x " << depth << " x " << columns;
      }
}

TEST(Matmul, StrassenEqualsTheDoublePrecisionProduct) {
  at::manual_seed(1);
  for (const auto& [rows, depth, columns] : {Shape{256, 1024, 1030}, Shape{263, 1026, 1024}, Shape{1033, 3210, 1028}}) {
    const at::Tensor input = at::randn({1, rows, depth}), weight = at::randn({columns, depth}).to(at::kBFloat16);
    const at::Tensor bias = at::randn({columns});
    const at::Tensor output = matmul(input, weight, {}, bias);
    EXPECT_EQ(output.sizes(), (at::IntArrayRef{1, rows, columns}));
    EXPECT_TRUE(testing::is_close(output.to(at::kDouble), plain(input, weight, bias), testing::kSameMath));
  }
}

TEST(Matmul, Float8WeightsAreTakenTimesTheirScales) {
  at::manual_seed(4);
  for (const auto& [rows, depth, columns] : {kShapes[1], kShapes[2], kShapes[6], Shape{259, 1026, 1030}}) {
    const at::Tensor input = at::randn({rows, depth}), weight = (at::randn({columns, depth}) * 9).to(at::kFloat8_e4m3fn);
    const at::Tensor scales = at::rand({columns}) + 0.1, bias = at::randn({columns});
    for (const at::Tensor& added : {bias, at::Tensor()})
      EXPECT_TRUE(testing::is_close(matmul(input, weight, scales, added).to(at::kDouble),
                                    plain(input, weight.to(at::kDouble) * scales.unsqueeze(1), added), testing::kSameMath))
          << rows << " x " << depth << " x " << columns;
  }
}

TEST(Matmul, EveryFloat8IsWidenedAsLibTorchDoes) {
  const at::Tensor bits = at::arange(256).to(at::kByte).view({1, 256}), wide = bits.view(at::kFloat8_e4m3fn).to(at::kFloat);
  // NaN times zero reaches every sum, so the others are seen without the two NaN.
  EXPECT_TRUE(ops::matmul(at::eye(256), bits.view(at::kFloat8_e4m3fn)).isnan().all().item<bool>());
  const at::Tensor numbers = bits.masked_fill(wide.isnan(), 0).view(at::kFloat8_e4m3fn);
  EXPECT_TRUE(ops::matmul(at::eye(256), numbers).t().equal(wide.nan_to_num(0)));
}

TEST(Matmul, InEightBitsEqualsTheProductOfWhatWasRounded) {
  at::manual_seed(2);
  for (const auto& [rows, depth, columns] :
       {kShapes[0], kShapes[1], kShapes[2], kShapes[4], kShapes[5], Shape{31, 2100, 40}}) {
    const at::Tensor input = at::randn({rows, depth}) * at::rand({rows, 1}) * 10, bias = at::randn({columns});
    const at::Tensor weight = at::randint(-127, 128, {columns, depth}).to(at::kChar), scales = at::rand({columns});
    const at::Tensor most = input.abs().amax(1, true), levels = at::full({}, int8_input_levels(), at::kFloat);
    const at::Tensor rounded =
        at::where(most == 0, at::zeros_like(input), (input * (levels / most)).round() * (most / levels));
    const at::Tensor expected = plain(rounded, weight.to(at::kDouble) * scales.unsqueeze(1), bias);
    EXPECT_TRUE(testing::is_close(matmul(input, weight, scales, bias).to(at::kDouble), expected, testing::kComponentParity))
        << rows << " x " << depth << " x " << columns;
  }
}

TEST(Matmul, InEightBitsARowOfZerosIsTheBiasAndNaNStaysNaN) {
  const at::Tensor input = at::ones({9, 20}), bias = at::arange(5, at::kFloat);
  input[3].zero_();
  input[4][19] = std::nan("");
  input[5][2] = std::numeric_limits<float>::infinity();
  const at::Tensor output = matmul(input, at::ones({5, 20}, at::kChar), at::ones({5}), bias);
  EXPECT_TRUE(output[3].equal(bias));
  EXPECT_TRUE(output[4].isnan().all().item<bool>());
  EXPECT_TRUE(output[5].isnan().all().item<bool>());
  EXPECT_TRUE(output.isnan().any(1).sum().item<int64_t>() == 2) << "other rows are not touched";
}

TEST(Matmul, RefusesShapesThatDoNotFit) {
  EXPECT_THROW(ops::matmul(at::ones({9, 4}), at::ones({3, 5})), Error);
  EXPECT_THROW(ops::matmul(at::ones({9, 5}), at::ones({3, 5}), {}, at::ones({4})), Error);
  EXPECT_THROW(ops::matmul(at::ones({9, 5}), at::ones({3, 5}, at::kChar)), Error) << "an int8 weight without scales";
  EXPECT_THROW(ops::matmul(at::ones({9, 5}), at::ones({3, 5}), at::ones({4})), Error);
}

}  // namespace
}  // namespace orrery::ops
