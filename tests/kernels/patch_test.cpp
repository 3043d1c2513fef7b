#include "ops/patch.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/machines.h"

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

// As the Cosmos tokenizers want them, [t,B,h,w,(C, kt, ky, kx)], the first frame once more before the clip; and as Wan's,
// [B,T,h,w,(C, kx, ky)], out of a part of a larger clip.
TEST(PatchTest, LayoutsOfNetworks) {
  at::manual_seed(9);
  for (const bool haar : {false, true}) {
    const at::Tensor x = at::randn({2, 3, 5, 6, 4}), long_x = at::cat({x.narrow(2, 0, 1), x}, 2);
    const ops::PatchForm form{2, 2, haar, 1};
    const at::Tensor expected = formula(long_x, form).view({2, 2, 2, 2, 3, 3, 3, 2}).permute({5, 0, 6, 7, 4, 1, 2, 3});
    const auto view = [](const at::Tensor& patches) { return patches.permute({1, 4, 5, 6, 7, 0, 2, 3}); };
    expect_on_all_machines(expected, [&](const Bring& on) {
      const at::Tensor patches = at::empty({3, 2, 3, 2, 3, 2, 2, 2}, on(x).options());
      ops::patch_into(on(x), view(patches), form);
      return patches;
    });
    expect_on_all_machines(x.to(at::kDouble), [&](const Bring& on) {
      const at::Tensor pixels = at::empty({2, 3, 5, 6, 4}, on(x).options());
      ops::unpatch_into(view(on(expected.to(at::kFloat).contiguous())), pixels, form);
      return pixels;
    });
  }
  const at::Tensor clip = at::randn({2, 3, 7, 6, 4}), x = clip.narrow(2, 3, 2);
  const auto view = [](const at::Tensor& patches) { return patches.unsqueeze(-1).permute({0, 4, 7, 6, 5, 1, 2, 3}); };
  const at::Tensor expected = x.unflatten(4, {2, 2}).unflatten(3, {3, 2}).permute({0, 2, 3, 5, 1, 6, 4});
  expect_on_all_machines(expected, [&](const Bring& on) {
    const at::Tensor patches = at::empty({2, 2, 3, 2, 3, 2, 2}, on(x).options());
    ops::patch_into(on(clip).narrow(2, 3, 2), view(patches), {});
    return patches;
  });
  expect_on_all_machines(clip, [&](const Bring& on) {
    const at::Tensor result = on(clip).clone();
    result.narrow(2, 3, 2).zero_();
    ops::unpatch_into(view(on(expected.contiguous())), result.narrow(2, 3, 2), {});
    return result;
  });
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
