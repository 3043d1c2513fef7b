#include "ops/frames.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/machines.h"

namespace orrery::testing {
namespace {

using ::testing::HasSubstr;

at::Tensor bytes(at::IntArrayRef shape) {
  return at::randint(0, 256, shape).to(at::kByte);
}

// Bytes may differ by one where the exact value lies next to a half.
void expect_bytes(const at::Tensor& actual, const at::Tensor& exact, const std::string& machine) {
  ASSERT_EQ(actual.sizes(), exact.sizes());
  if (exact.numel() == 0) return;
  EXPECT_LE((actual.to(at::kDouble) - exact.clamp(0, 255)).abs().max().item<double>(), 0.501) << machine;
}

at::Tensor resized(const at::Tensor& planes, int64_t height, int64_t width) {
  if (planes.size(0) == 0) return at::zeros({0, planes.size(1), height, width}, at::kDouble);
  return at::upsample_bilinear2d(planes.to(at::kDouble), {height, width}, false);
}

// BT.601 or BT.709 as the standards write it, luma beginning at `black`: [T,3,h,w] from planes of Y, Cb and Cr, and back.
struct Standard {
  double red, blue, black, luma_steps, chroma_steps;
  at::Tensor to_rgb(const at::Tensor& luma, const at::Tensor& chroma) const {
    const at::Tensor y = (luma.to(at::kDouble) - black) / luma_steps * 255;
    const at::Tensor wide = chroma.repeat_interleave(2, 1).repeat_interleave(2, 2).to(at::kDouble);
    const at::Tensor cb = (wide.select(3, 0) - 128) / chroma_steps * 255,
                     cr = (wide.select(3, 1) - 128) / chroma_steps * 255;
    const at::Tensor r = y + 2 * (1 - red) * cr, b = y + 2 * (1 - blue) * cb;
    return at::stack({r, (y - red * r - blue * b) / (1 - red - blue), b}, 1);
  }
};
Standard standard_of(ops::Colours colours) {
  switch (colours) {
    case ops::Colours::kBt601: return {0.299, 0.114, 16, 219, 224};
    case ops::Colours::kBt709: return {0.2126, 0.0722, 16, 219, 224};
    case ops::Colours::kBt601Full: return {0.299, 0.114, 0, 255, 255};
    default: return {0.2126, 0.0722, 0, 255, 255};
  }
}

TEST(FramesTest, RgbToNumbersAndBack) {
  at::manual_seed(10);
  for (const auto& [frames, h, w, height, width] :
       {std::tuple{1, 1, 1, 1, 1}, {2, 5, 7, 5, 7}, {1, 4, 6, 9, 5}, {3, 9, 8, 3, 20}, {0, 2, 2, 4, 4}}) {
    const at::Tensor rgb = bytes({frames, h, w, 3});
    const at::Tensor exact = resized(rgb.permute({0, 3, 1, 2}), height, width);
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf})
      expect_on_all_machines(exact / 127.5 - 1,
                             [&](const Bring& on) { return ops::frames_from_rgb(on(rgb), height, width, type); });
    const at::Tensor numbers = at::randn({frames, 3, h, w});
    for (const Machine& machine : machines())
      expect_bytes(machine.run([&](const Bring& on) { return ops::frames_to_rgb(on(numbers), height, width); }),
                   resized((numbers + 1) * 127.5, height, width).permute({0, 2, 3, 1}), machine.name);
  }
}

TEST(FramesTest, Nv12ToNumbersAndBack) {
  for (const ops::Colours colours :
       {ops::Colours::kBt601, ops::Colours::kBt709, ops::Colours::kBt601Full, ops::Colours::kBt709Full}) {
    const Standard standard = standard_of(colours);
    const at::Tensor luma = bytes({2, 6, 10}), chroma = bytes({2, 3, 5, 2});
    for (const auto& [height, width] : {std::pair{6, 10}, {7, 9}})
      expect_on_all_machines(resized(standard.to_rgb(luma, chroma), height, width) / 127.5 - 1, [&](const Bring& on) {
        return ops::frames_from_nv12(on(luma), on(chroma), colours, height, width, at::kFloat);
      });
    const at::Tensor rgb = at::rand({2, 3, 6, 10}, at::kDouble) * 255, r = rgb.select(1, 0), g = rgb.select(1, 1),
                     b = rgb.select(1, 2);
    const at::Tensor y = standard.red * r + (1 - standard.red - standard.blue) * g + standard.blue * b;
    const at::Tensor both =
        at::stack({(b - y) / 2 / (1 - standard.blue), (r - y) / 2 / (1 - standard.red)}, 1) / 255 * standard.chroma_steps +
        128;
    for (const Machine& machine : machines()) {
      at::Tensor found;
      const at::Tensor numbers = (rgb / 127.5 - 1).to(at::kFloat);
      expect_bytes(machine.run([&](const Bring& on) {
        const auto [l, c] = ops::frames_to_nv12(on(numbers), colours, 6, 10);
        found = c.to(at::kCPU);
        return l;
      }),
                   y / 255 * standard.luma_steps + standard.black, machine.name);
      expect_bytes(found, at::avg_pool2d(both, 2).permute({0, 2, 3, 1}), machine.name);
    }
  }
}

TEST(FramesTest, RefusesByName) {
  EXPECT_THAT(error_of([&] {
                return ops::frames_from_rgb(at::randn({1, 2, 2, 3}), 2, 2, at::kFloat);
              }),
              HasSubstr("rgb: has a dtype"));
  EXPECT_THAT(error_of([&] {
                return ops::frames_from_nv12(bytes({1, 3, 4}), bytes({1, 1, 2, 2}), ops::Colours::kBt601, 2, 2, at::kFloat);
              }),
              HasSubstr("luma: must have even sides"));
  EXPECT_THAT(error_of([&] {
                return ops::frames_to_nv12(at::randn({1, 3, 4, 4}), ops::Colours::kBt601, 3, 4).first;
              }),
              HasSubstr("size: must be even for NV12"));
  EXPECT_THAT(error_of([&] {
                return ops::frames_to_rgb(at::randn({1, 3, 4, 4}), 0, 4);
              }),
              HasSubstr("size: must be a picture's"));
}

}  // namespace
}  // namespace orrery::testing
