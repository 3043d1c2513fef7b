#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "orrery/error.h"
#include "orrery/media.h"
#include "support/media_data.h"
#include "support/temporary.h"

namespace orrery {
namespace {

using testing::max_difference;
using testing::names_in;
using testing::TemporaryFolder;

// Noise: nothing that a lossy step could leave as it is.
Video noise(int64_t frames, int64_t height, int64_t width, double fps = 8) {
  const at::Generator generator = at::detail::createCPUGenerator(7);
  return {at::randint(0, 256, {frames, height, width, 3}, generator, at::kByte), fps};
}

// A smooth moving picture, which lossy codecs keep well.
Video smooth(int64_t frames, int64_t height, int64_t width, double fps = 8) {
  const at::Tensor t = at::arange(frames).view({frames, 1, 1, 1}), y = at::arange(height).view({1, height, 1, 1});
  const at::Tensor x = at::arange(width).view({1, 1, width, 1}), c = at::arange(3).view({1, 1, 1, 3});
  const at::Tensor wave = at::sin((x + y * 0.7 + t * 2) * 0.15 + c);
  return {wave.mul(100).add(128).round().to(at::kByte).contiguous(), fps};
}

double psnr_of(const at::Tensor& a, const at::Tensor& b) {
  return 10 * std::log10(255 * 255 / (a.to(at::kDouble) - b.to(at::kDouble)).pow(2).mean().item<double>());
}

class LosslessWriter : public ::testing::TestWithParam<const char*> {};

TEST_P(LosslessWriter, FramesComeBackBitForBit) {
  const TemporaryFolder folder;
  const Video video = noise(3, 15, 17);
  write_video(folder / GetParam(), video);
  const Video back = read_video(folder / GetParam());
  EXPECT_EQ(max_difference(back.frames, video.frames), 0);
  EXPECT_EQ(names_in(folder.path()).size(), std::string(GetParam()) == "%03d.png" ? 3 : 1);
}

INSTANTIATE_TEST_SUITE_P(Kinds, LosslessWriter, ::testing::Values("clip.mkv", "frames", "new/", "%03d.png"));

TEST(WriterTest, OnePictureComesBackBitForBit) {
  const TemporaryFolder folder;
  const Video picture = noise(1, 5, 7);
  write_video(folder / "a.png", picture);
  const Video back = read_image(folder / "a.png");
  EXPECT_EQ(max_difference(back.frames, picture.frames), 0);
  EXPECT_EQ(back.fps, 0);
}

struct Lossy {
  const char* name;
  double least_psnr;
};

class LossyWriter : public ::testing::TestWithParam<Lossy> {};

TEST_P(LossyWriter, FramesRateAndOddSizesAreKept) {
  const TemporaryFolder folder;
  const Video video = smooth(5, 45, 67, 24000.0 / 1001);
  write_video(folder / GetParam().name, video);
  const Video back = read_video(folder / GetParam().name);
  ASSERT_EQ(back.num_frames(), 5);
  ASSERT_EQ(back.height(), 46);  // a row and a column repeat the edge
  ASSERT_EQ(back.width(), 68);
  EXPECT_NEAR(back.fps, video.fps, 1e-3);
  EXPECT_GT(psnr_of(back.frames.narrow(1, 0, 45).narrow(2, 0, 67), video.frames), GetParam().least_psnr);
  EXPECT_LT(psnr_of(back.frames.narrow(1, 1, 45).narrow(2, 1, 67), video.frames), GetParam().least_psnr);
}

INSTANTIATE_TEST_SUITE_P(Kinds, LossyWriter, ::testing::Values(Lossy{"a.mp4", 32}, Lossy{"a.webm", 32}, Lossy{"a.mov", 32}));

}  // namespace
}  // namespace orrery
