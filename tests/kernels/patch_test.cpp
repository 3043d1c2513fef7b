#include "ops/patch.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/machines.h"
#include "kernels/patch.h"

namespace orrery::testing {
namespace {

using ::testing::HasSubstr;

// [B,C,t,pt,h,ps,w,ps] with the patch's axes first among the channels, and for Haar a product with its matrix along each.
at::Tensor formula(const at::Tensor& x, const ops::PatchForm& f) {
  const int64_t t = x.size(2) / f.pt, h = x.size(3) / f.ps, w = x.size(4) / f.ps;
  at::Tensor y = x.to(at::kDouble).view({x.size(0), x.size(1), t, f.pt, h, f.ps, w, f.ps}).permute({0, 3, 5, 7, 1, 2, 4, 6});
  if (f.haar) {
    const at::Tensor haar = at::tensor({1.0, 1.0, 1.0, -1.0}).view({2, 2}) / std::sqrt(2.0);
    for (const int64_t axis : {1, 2, 3})
      if (y.size(axis) == 2) y = at::tensordot(y, haar, {axis}, {1}).movedim(-1, axis);
  }
  return y.flatten(1, 4);
}

TEST(PatchTest, IsTheFormulaAndItsInverse) {
  at::manual_seed(8);
  for (const ops::PatchForm& form :
       {ops::PatchForm{1, 2, false}, {2, 2, false}, {1, 3, false}, {1, 2, true}, {2, 2, true}}) {
    for (const auto& [batch, channels, t, h, w] :
         {std::tuple{1, 1, 1, 1, 1}, {2, 3, 2, 3, 5}, {0, 1, 1, 2, 2}, {1, 7, 1, 5, 11}}) {
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
        const at::Tensor x = at::randn({batch, channels, t * form.pt, h * form.ps, w * form.ps}).to(type);
        const at::Tensor patches = formula(x, form);
        expect_on_all_machines(patches, [&](const Bring& on) { return ops::patch(on(x), form); });
        expect_on_all_machines(x.to(at::kDouble),
                               [&](const Bring& on) { return ops::unpatch(on(patches.to(at::kFloat)), form); });
      }
    }
  }
}

TEST(PatchTest, PlacesHave64Bits) {
  kernels::Patch p;
  p.pt = p.ps = 2;
  p.batch = 3, p.channels = 1000, p.t = 100, p.h = 1000, p.w = 1001;
  const int64_t volume = p.t * p.h * p.w, cell = (2 * 1000 + 7) * volume + (5 * 1000 + 3) * 1001 + 4;
  EXPECT_EQ(kernels::patch_of(p, cell), (int64_t{2} * 8000 + 7) * volume + (5 * 1000 + 3) * 1001 + 4);
  EXPECT_EQ(kernels::pixel_of(p, cell), ((int64_t{2007} * 200 + 10) * 2000 + 6) * 2002 + 8);
}

TEST(PatchTest, RefusesByName) {
  EXPECT_THAT(error_of([&] {
                return ops::patch(at::randn({1, 1, 1, 3, 2}), {});
              }),
              HasSubstr("patch: x: does not split into patches"));
  EXPECT_THAT(error_of([&] {
                return ops::unpatch(at::randn({1, 6, 1, 2, 2}), {});
              }),
              HasSubstr("unpatch: x: does not split"));
  EXPECT_THAT(error_of([&] { return ops::patch(at::randn({1, 1, 1, 3, 3}), {1, 3, true}); }), HasSubstr("Haar's transform"));
}

}  // namespace
}  // namespace orrery::testing
