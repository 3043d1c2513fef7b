#include "orrery/metrics.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "orrery/error.h"
#include "orrery/media.h"

namespace orrery {
namespace {

// Value (37 t + 11 y + 7 x + 53 c + extra) mod 256, where extra is x·y mod 23 if `disturbed`.
Video pattern(bool disturbed) {
  const auto axis = [](int64_t size, int dim) {
    std::vector<int64_t> shape(4, 1);
    shape[dim] = size;
    return at::arange(size, at::kLong).view(shape);
  };
  const at::Tensor t = axis(2, 0), y = axis(13, 1), x = axis(15, 2), c = axis(3, 3);
  at::Tensor value = t * 37 + y * 11 + x * 7 + c * 53;
  if (disturbed) value = value + (x * y).remainder(23);
  return {value.remainder(256).to(at::kByte), 8};
}

// The expected figures come from a plain numpy transcription of the formulas, window by window.
TEST(MetricsTest, PsnrAndSsimHaveTheKnownValues) {
  EXPECT_NEAR(psnr(pattern(true), pattern(false)), 14.142492187948402, 1e-9);
  EXPECT_NEAR(ssim(pattern(true), pattern(false)), 0.7210674651850385, 1e-9);
}

TEST(MetricsTest, EqualClipsAreBestAndSmallOnesWork) {
  const Video video = pattern(false);
  EXPECT_TRUE(std::isinf(psnr(video, video)));
  EXPECT_NEAR(ssim(video, video), 1, 1e-12);
  const Video small{video.frames.narrow(1, 0, 4).narrow(2, 0, 3), 8};
  EXPECT_NEAR(ssim(small, small), 1, 1e-12);
}

TEST(MetricsTest, ClipsOfDifferentShapeAreRefused) {
  const Video video = pattern(false);
  EXPECT_THROW(psnr(video, {video.frames.narrow(0, 0, 1), 8}), Error);
  EXPECT_THROW(ssim({at::Tensor(), 8}, video), Error);
}

TEST(ComposeTest, SideBySidePutsTheSecondClipRight) {
  const Video left = pattern(false), right{pattern(true).frames.narrow(2, 0, 4).contiguous(), 8};
  const Video both = side_by_side(left, right);
  EXPECT_TRUE(both.frames.narrow(2, 0, 15).equal(left.frames));
  EXPECT_TRUE(both.frames.narrow(2, 15, 4).equal(right.frames));
  EXPECT_THROW(side_by_side(left, {right.frames.narrow(0, 0, 1), 8}), Error);
}

}  // namespace
}  // namespace orrery
