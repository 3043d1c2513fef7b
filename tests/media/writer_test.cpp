#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cmath>

#include "orrery/error.h"
#include "orrery/media.h"
#include "support/errors.h"
#include "support/media_data.h"
#include "support/temporary.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::error_of;
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
void PrintTo(const Lossy& lossy, std::ostream* out) { *out << lossy.name; }  // CTest names a test by it

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

TEST(WriterTest, GifKeepsFewColoursExactlyAndManyNearly) {
  const TemporaryFolder folder;
  const Video flat{noise(3, 9, 11).frames.div(64, "floor").mul(60).to(at::kByte), 10};  // 64 colours at most
  write_video(folder / "flat.gif", flat);
  const Video back = read_video(folder / "flat.gif");
  EXPECT_EQ(max_difference(back.frames, flat.frames), 0);
  EXPECT_EQ(back.fps, 10);
  const Video many = smooth(3, 45, 67, 10);
  write_video(folder / "many.gif", many);
  EXPECT_GT(psnr_of(read_video(folder / "many.gif").frames, many.frames), 28);
}

TEST(WriterTest, JpegKeepsAPictureNearly) {
  const TemporaryFolder folder;
  const Video picture = smooth(1, 45, 67);
  write_video(folder / "a.jpg", picture);
  EXPECT_GT(psnr_of(read_image(folder / "a.jpg").frames, picture.frames), 38);
}

TEST(WriterTest, Mp4BeginsWithItsIndexAndNamesItsColours) {
  const TemporaryFolder folder;
  write_video(folder / "a.mp4", smooth(3, 16, 16));
  const std::string bytes = testing::read_file(folder / "a.mp4");
  EXPECT_LT(bytes.find("moov"), bytes.find("mdat"));
  EXPECT_NE(bytes.find(std::string("nclx\0\x01\0\x01\0\x06\0", 11)), std::string::npos);  // BT.709 primaries, BT.601 matrix
}

TEST(WriterTest, TheSameFramesGiveTheSameBytes) {
  const TemporaryFolder folder;
  for (const char* extension : {".mp4", ".mkv", ".webm", ".gif"}) {
    write_video(folder / (std::string("a") + extension), smooth(3, 16, 16));
    write_video(folder / (std::string("b") + extension), smooth(3, 16, 16));
    EXPECT_EQ(testing::read_file(folder / (std::string("a") + extension)),
              testing::read_file(folder / (std::string("b") + extension)));
  }
}

TEST(WriterTest, NothingIsLeftWithoutFinish) {
  const TemporaryFolder folder;
  for (const char* name : {"a.mp4", "a.webm", "a.mkv", "a.gif", "a.png", "frames", "%03d.png"}) {
    {
      VideoWriter writer(folder / name);
      writer.write(smooth(1, 16, 16).frames);
      EXPECT_EQ(names_in(folder.path()).size(), 1u);  // the hidden, unfinished one
      EXPECT_FALSE(std::filesystem::exists(folder / name));
    }
    EXPECT_EQ(names_in(folder.path()), std::vector<std::string>()) << name;
  }
}

TEST(WriterTest, AnOldFileStaysUntilTheNewOneIsComplete) {
  const TemporaryFolder folder;
  write_video(folder / "a.mkv", noise(1, 6, 6));
  const std::string old = testing::read_file(folder / "a.mkv");
  VideoWriter writer(folder / "a.mkv");
  writer.write(noise(4, 8, 8).frames);
  EXPECT_EQ(testing::read_file(folder / "a.mkv"), old);
  writer.finish();
  EXPECT_EQ(read_video(folder / "a.mkv").num_frames(), 4);
  EXPECT_THROW(writer.finish(), Error);
  EXPECT_THROW(writer.write(noise(1, 8, 8).frames), Error);
}

TEST(WriterTest, AShorterSequenceReplacesALongerOne) {
  const TemporaryFolder folder;
  write_video(folder / "frames", noise(4, 6, 6));
  testing::write_file(folder / "frames/notes.txt", "stays");
  write_video(folder / "frames", noise(2, 8, 8));
  EXPECT_EQ(names_in(folder / "frames"), (std::vector<std::string>{"00000.png", "00001.png", "notes.txt"}));
  EXPECT_EQ(read_video(folder / "frames").height(), 8);
}

TEST(WriterTest, PlacesThatCannotBeWrittenAreRefusedAtOnce) {
  const TemporaryFolder folder;
  testing::write_file(folder / "file", "no folder");
  for (const char* name : {"absent/a.mp4", "absent/a.png", "absent/frames", "absent/sub/%d.png", "file/a.mkv", "file/"}) {
    const std::string message = error_of([&] { VideoWriter writer(folder / name); });
    EXPECT_THAT(message, StartsWith("media: "));
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
  EXPECT_THAT(error_of([&] { VideoWriter writer(folder / "absent/a.mp4"); }),
              HasSubstr("a.mp4: cannot be written (No such file or directory); is the folder there"));
}

TEST(WriterTest, WhatCannotBeWrittenIsRefused) {
  const TemporaryFolder folder;
  const auto refused = [&](const char* name, const WriteOptions& options, const at::Tensor& frames) {
    EXPECT_THROW(
        {
          VideoWriter writer(folder / name, options);
          writer.write(frames);
        },
        Error)
        << name;
  };
  refused("a.txt", {}, noise(1, 6, 6).frames);
  refused("a.mp4", {.fps = -1}, noise(1, 6, 6).frames);
  refused("a.mp4", {.fps = NAN}, noise(1, 6, 6).frames);
  refused("a.gif", {.fps = 60}, noise(1, 6, 6).frames);
  refused("a.mp4", {.crf = 60}, noise(1, 6, 6).frames);
  refused("a.mkv", {}, at::zeros({1, 6, 6, 3}));
  refused("a.mkv", {}, at::zeros({1, 0, 6, 3}, at::kByte));
  refused("a.mkv", {}, at::Tensor());
  refused("a.png", {}, noise(2, 6, 6).frames);
  EXPECT_THROW(write_video(folder / "a.mkv", {}), Error);
  VideoWriter writer(folder / "a.mkv");
  writer.write(noise(1, 6, 6).frames);
  EXPECT_THROW(writer.write(noise(1, 6, 7).frames), Error);
  writer.finish();
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"a.mkv"});
}

// A file system of 64 KiB; only root can make one.
class FullDisk : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    mounted_ = mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, "size=64k") == 0;
    if (!mounted_) GTEST_SKIP() << "a small disk cannot be mounted here";
  }
  void TearDown() override {
    if (mounted_) umount(folder_.path().c_str());
  }
  TemporaryFolder folder_;
  bool mounted_ = false;
};

TEST_P(FullDisk, IsToldAndNothingIsLeft) {
  ::testing::internal::CaptureStderr();
  const std::string message = error_of([&] { write_video(folder_ / GetParam(), noise(8, 128, 128), {.crf = 1}); });
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_THAT(message, HasSubstr("cannot be written (No space left on device); free some space"));
  EXPECT_EQ(names_in(folder_.path()), std::vector<std::string>());
}

INSTANTIATE_TEST_SUITE_P(Kinds, FullDisk, ::testing::Values("a.mp4", "a.webm", "a.mkv", "a.gif", "frames", "frames.mov"));

}  // namespace
}  // namespace orrery
