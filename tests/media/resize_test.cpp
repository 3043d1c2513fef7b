#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "orrery/error.h"
#include "orrery/media.h"
#include "support/media_data.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery {
namespace {

using testing::max_difference;

// Raw RGB24 of tests/golden/resize.
at::Tensor stored(const std::string& name, int64_t height, int64_t width) {
  const std::string bytes = testing::read_file(testing::golden_folder() / "resize" / name);
  EXPECT_EQ(bytes.size(), static_cast<size_t>(height * width * 3)) << name;
  at::Tensor picture = at::empty({1, height, width, 3}, at::kByte);
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(picture.data_ptr<uint8_t>()));
  return picture;
}

struct Size {
  int64_t width, height;
};

class ResizeGolden : public ::testing::TestWithParam<Size> {};

TEST_P(ResizeGolden, EqualsPillowAndTorchvisionToOne) {
  const auto [width, height] = GetParam();
  const Video picture{stored("picture.rgb", 19, 23), 0};
  for (const auto& [filter, name] : {std::pair(ResizeFilter::kBilinear, "bilinear"), {ResizeFilter::kBicubic, "bicubic"}}) {
    const std::string stem = std::string(name) + "_" + std::to_string(width) + "x" + std::to_string(height);
    const Video resized = resize(picture, {.height = height, .width = width, .filter = filter});
    EXPECT_EQ(max_difference(resized.frames, stored(stem + ".pillow.rgb", height, width)), 0) << stem;
    EXPECT_LE(max_difference(resized.frames, stored(stem + ".torchvision.rgb", height, width)), 1) << stem;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, ResizeGolden,
                         ::testing::Values(Size{11, 7}, Size{23, 5}, Size{8, 19}, Size{40, 33}, Size{1, 1}, Size{24, 20}),
                         [](const auto& info) {
                           return std::to_string(info.param.width) + "x" + std::to_string(info.param.height);
                         });

// Columns 0 … 11 of rising grey in 6 rows.
Video ramp() {
  const at::Tensor grey = (at::arange(12) * 20).to(at::kByte).view({1, 1, 12, 1});
  return {grey.expand({2, 6, 12, 3}).contiguous(), 5};
}

TEST(ResizeTest, CropCutsBothSidesEvenly) {
  const Video cropped = resize(ramp(), {.height = 6, .width = 6, .mode = ResizeMode::kCrop});
  EXPECT_EQ(cropped.fps, 5);
  EXPECT_TRUE(cropped.frames.equal(ramp().frames.narrow(2, 3, 6)));
  const Video halved = resize(ramp(), {.height = 3, .width = 4, .mode = ResizeMode::kCrop});
  EXPECT_TRUE(halved.frames.equal(resize(ramp(), {.height = 3, .width = 6}).frames.narrow(2, 1, 4)));
}

TEST(ResizeTest, LetterboxKeepsTheShapeAndAddsBlack) {
  const Video boxed = resize(ramp(), {.height = 12, .width = 12, .mode = ResizeMode::kLetterbox});
  EXPECT_TRUE(boxed.frames.narrow(1, 3, 6).equal(ramp().frames));
  EXPECT_EQ(boxed.frames.narrow(1, 0, 3).max().item<int>(), 0);
  EXPECT_EQ(boxed.frames.narrow(1, 9, 3).max().item<int>(), 0);
}

TEST(ResizeTest, ASideOfZeroKeepsTheSources) {
  EXPECT_EQ(resize(ramp(), {.width = 5}).frames.sizes(), (at::IntArrayRef{2, 6, 5, 3}));
  EXPECT_TRUE(resize(ramp(), {}).frames.equal(ramp().frames));
}

TEST(ResizeTest, WhatAreNoFramesIsRefused) {
  EXPECT_THROW(resize({}, {.height = 4}), Error);
  EXPECT_THROW(resize({at::zeros({1, 2, 2, 3}), 0}, {.height = 4}), Error);
  EXPECT_THROW(resize(ramp(), {.height = -4}), Error);
}

}  // namespace
}  // namespace orrery
