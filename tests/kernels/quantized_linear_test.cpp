#include "ops/quantized_linear.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/machines.h"

namespace orrery::testing {
namespace {

using ::testing::HasSubstr;

TEST(QuantizedLinearTest, IsTheFormulaForBothKindsOfWeights) {
  at::manual_seed(9);
  for (const auto& [rows, in, out] : {std::tuple{1, 1, 1}, {1, 528, 11}, {6, 64, 9}, {3, 37, 5}, {16, 48, 3}, {0, 16, 4}}) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      for (const at::ScalarType kind : {at::kChar, at::ScalarType::Float8_e4m3fn}) {
        SCOPED_TRACE(std::to_string(rows) + "x" + std::to_string(in) + " " + at::toString(type) + " " + at::toString(kind));
        const at::Tensor x = at::randn({rows, 2 * in}).to(type).narrow(1, 0, in);
        const at::Tensor weight =
            kind == at::kChar ? at::randint(-127, 128, {out, in}).to(kind) : (at::randn({out, in}) * 50).to(kind);
        const at::Tensor scale = at::rand({out}) / 100, bias = at::randn({out});
        const at::Tensor expected =
            x.to(at::kDouble).matmul((weight.to(at::kFloat).to(at::kDouble) * scale.unsqueeze(1)).t()) + bias;
        expect_on_all_machines(
            expected, [&](const Bring& on) { return ops::quantized_linear(on(x), on(weight), on(scale), on(bias)); });
      }
    }
  }
}

TEST(QuantizedLinearTest, RefusesByName) {
  const at::Tensor x = at::randn({2, 8}), weight = at::ones({3, 8}).to(at::kChar), scale = at::ones({3});
  EXPECT_THAT(error_of([&] {
                return ops::quantized_linear(at::randn({17, 8}), weight, scale, {});
              }),
              HasSubstr("x: has more rows"));
  EXPECT_THAT(error_of([&] { return ops::quantized_linear(x, weight.to(at::kFloat), scale, {}); }),
              HasSubstr("weight: has a dtype"));
  EXPECT_THAT(error_of([&] { return ops::quantized_linear(x, weight, at::ones({2}), {}); }),
              HasSubstr("scale: has the wrong shape"));
}

}  // namespace
}  // namespace orrery::testing
