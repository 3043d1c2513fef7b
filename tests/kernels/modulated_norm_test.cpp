#include "ops/modulated_norm.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/machines.h"

namespace orrery::testing {
namespace {

using ::testing::HasSubstr;

// A row of the result, as the papers write it, in float64.
at::Tensor formula(const at::Tensor& x, ops::NormKind kind, const at::Tensor& weight, const at::Tensor& bias,
                   const at::Tensor& scale, const at::Tensor& shift) {
  at::Tensor y = x.to(at::kDouble);
  if (kind == ops::NormKind::kLayer) y = y - y.mean(-1, true);
  y = y / (y.square().mean(-1, true) + 1e-6).sqrt();
  const int64_t each = x.size(0) / std::max<int64_t>(1, scale.size(0));
  return (y * weight) * (1 + scale.to(at::kDouble).repeat_interleave(each, 0)) + bias +
         shift.to(at::kDouble).repeat_interleave(each, 0);
}

TEST(ModulatedNormTest, IsTheFormulaForEveryShapeDtypeAndMachine) {
  at::manual_seed(1);
  for (const auto& [rows, width, groups] :
       {std::tuple{1, 1, 1}, {6, 99, 3}, {9, 256, 1}, {17, 520, 17}, {0, 64, 1}, {3, 1033, 1}}) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      for (const ops::NormKind kind : {ops::NormKind::kRms, ops::NormKind::kLayer}) {
        SCOPED_TRACE(std::to_string(rows) + "x" + std::to_string(width) + " " + at::toString(type));
        const at::Tensor x = (at::randn({rows, width}) * 3 + 1).to(type);
        const at::Tensor weight = at::randn({width}), bias = at::randn({width});
        const at::Tensor scale = at::randn({groups, width}), shift = at::randn({groups, width});
        const at::Tensor more = at::randn({groups, 2 * width});  // the addends are strided, as a chunk of a projection is
        expect_on_all_machines(
            formula(x, kind, weight, bias, scale + more.narrow(1, 0, width), shift + more.narrow(1, width, width)),
            [&](const Bring& on) {
              return ops::modulated_norm(on(x), kind, 1e-6, on(weight), on(bias), {on(scale), on(more.narrow(1, 0, width))},
                                         {on(shift), on(more.narrow(1, width, width))});
            });
      }
    }
  }
}

TEST(ModulatedNormTest, TakesRowsThatAreApartAndNoModulation) {
  const at::Tensor wide = at::randn({5, 3, 64});
  for (const int64_t first : {0, 1}) {  // aligned, and not
    const at::Tensor x = wide.select(1, 1).narrow(1, first, 48);
    const at::Tensor none = at::zeros({1, 48});
    expect_on_all_machines(formula(x, ops::NormKind::kRms, at::ones({48}), none, none, none),
                           [&](const Bring& on) { return ops::modulated_norm(on(x), ops::NormKind::kRms, 1e-6); });
  }
}

// The norm of the Wan decoders: by the length of each pixel, zeros stay zeros, a SiLU on the way out.
TEST(ModulatedNormTest, TakesTheSiluOfWhatItGives) {
  at::manual_seed(2);
  for (const auto& [rows, width] : {std::pair{6, 99}, {9, 256}, {1, 8}}) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const at::Tensor x = (at::randn({rows, width}) * 3).to(type), gamma = at::randn({width}) * 4;
      x[0].zero_();
      const at::Tensor length = x.to(at::kDouble).norm(2, {-1}, /*keepdim=*/true).clamp_min(1e-12);
      const at::Tensor expected = at::silu(x.to(at::kDouble) / length * std::sqrt(width) * gamma);
      expect_on_all_machines(expected, [&](const Bring& on) {
        return ops::modulated_norm(on(x), ops::NormKind::kRms, 1e-24 / width, on(gamma), {}, {}, {}, /*silu=*/true);
      });
    }
  }
}

TEST(ModulatedNormTest, GatedResidualIsTheFormula) {
  for (const auto& [rows, width, groups] : {std::tuple{1, 1, 1}, {6, 99, 3}, {9, 256, 1}, {0, 64, 1}}) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const at::Tensor x = at::randn({rows, width}).to(type),
                       residual = at::randn({rows, 2 * width}).to(type).narrow(1, 0, width);
      const at::Tensor gate = at::randn({groups, width}), addend = at::randn({groups, width});
      const at::Tensor expected =
          residual.to(at::kDouble) + (gate + addend).to(at::kDouble).repeat_interleave(rows / groups, 0) * x.to(at::kDouble);
      expect_on_all_machines(expected, [&](const Bring& on) {
        return ops::gated_residual(on(residual), on(x), {on(gate), on(addend)});
      });
    }
  }
}

// Three rows that lie 2³¹ numbers apart, in memory that is only promised.
TEST(ModulatedNormTest, OffsetsHave64Bits) {
  const int64_t apart = (int64_t{1} << 31) + 8;
  const at::Tensor x = sparse(2 * apart + 64).as_strided({3, 64}, {apart, 1});
  x.copy_(at::randn({3, 64}));
  const at::Tensor none = at::zeros({1, 64});
  expect_on_all_machines(formula(x, ops::NormKind::kRms, at::ones({64}), none, none, none),
                         [&](const Bring& on) { return ops::modulated_norm(on(x), ops::NormKind::kRms, 1e-6); });
}

TEST(ModulatedNormTest, RefusesByName) {
  const at::Tensor x = at::randn({6, 8});
  EXPECT_THAT(error_of([&] { return ops::modulated_norm(x.to(at::kLong), ops::NormKind::kRms, 1e-6); }),
              HasSubstr("modulated_norm: x: has a dtype that the op has no kernel for"));
  EXPECT_THAT(error_of([&] { return ops::modulated_norm(x.t(), ops::NormKind::kRms, 1e-6); }),
              HasSubstr("x: must have the elements"));
  EXPECT_THAT(error_of([&] { return ops::modulated_norm(x[0], ops::NormKind::kRms, 1e-6); }),
              HasSubstr("x: has the wrong shape"));
  EXPECT_THAT(error_of([&] { return ops::modulated_norm(x, ops::NormKind::kRms, 1e-6, at::ones({7})); }),
              HasSubstr("weight: has the wrong shape; expected [8], got [7]"));
  EXPECT_THAT(error_of([&] {
                return ops::modulated_norm(x, ops::NormKind::kRms, 1e-6, {}, {}, {at::ones({4, 8}), {}});
              }),
              HasSubstr("scale: must split the rows evenly"));
  EXPECT_THAT(error_of([&] {
                return ops::gated_residual(x, x.to(at::kHalf), {at::ones({1, 8}), {}});
              }),
              HasSubstr("gated_residual: x: has the wrong dtype; expected Float, got Half"));
  EXPECT_THAT(error_of([&] { return ops::gated_residual(x, x, {}); }), HasSubstr("gate: is missing"));
}

}  // namespace
}  // namespace orrery::testing
