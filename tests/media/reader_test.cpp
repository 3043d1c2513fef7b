#include "orrery/media.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "media/ffmpeg.h"
#include "orrery/error.h"
#include "support/errors.h"
#include "support/media_data.h"
#include "support/temporary.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::clip;
using testing::error_of;
using testing::golden_frames;
using testing::max_difference;

struct Clip {
  const char* name;
  int64_t frames, height, width;
  double fps;
  int tolerance;  // in 1/255: swscale's fast paths differ by this between processors
};

void PrintTo(const Clip& clip, std::ostream* out) { *out << clip.name; }

class ReaderGolden : public ::testing::TestWithParam<Clip> {};

TEST_P(ReaderGolden, FramesAreThoseOfTheFfmpegProgram) {
  const Clip& expected = GetParam();
  const Video video = read_video(clip(expected.name));
  ASSERT_EQ(video.frames.sizes(), (at::IntArrayRef{expected.frames, expected.height, expected.width, 3}));
  EXPECT_NEAR(video.fps, expected.fps, 1e-6);
  EXPECT_LE(max_difference(video.frames, golden_frames(expected.name, video.frames.sizes())), expected.tolerance);
}

INSTANTIATE_TEST_SUITE_P(
    Clips, ReaderGolden,
    ::testing::Values(Clip{"h264.mp4", 8, 18, 16, 8, 2}, Clip{"odd.webm", 3, 15, 17, 8, 2}, Clip{"odd444.mov", 3, 15, 17, 8, 2},
                      Clip{"ten_bit.mp4", 3, 16, 18, 8, 2}, Clip{"full_range.mp4", 3, 16, 18, 8, 2},
                      Clip{"bt709.mp4", 3, 16, 18, 8, 2}, Clip{"mjpeg.avi", 3, 16, 18, 8, 2},
                      Clip{"b_frames.avi", 8, 16, 18, 8, 2}, Clip{"ntsc.mkv", 5, 16, 18, 30000.0 / 1001, 2},
                      Clip{"alpha.mkv", 2, 16, 18, 8, 0}, Clip{"animated.gif", 4, 18, 16, 10, 0},
                      Clip{"nv12.mkv", 2, 16, 18, 8, 2}, Clip{"variable.mp4", 6, 16, 18, 60.0 / 11, 2},
                      Clip{"rotated90.mp4", 2, 16, 18, 8, 2}, Clip{"rotated180.mp4", 2, 18, 16, 8, 2},
                      Clip{"rotated270.mp4", 2, 16, 18, 8, 2}, Clip{"gray.png", 1, 5, 7, 0, 0},
                      Clip{"palette.png", 1, 5, 9, 0, 0}, Clip{"deep.png", 1, 5, 9, 0, 1}),
    [](const auto& info) {
      std::string name = info.param.name;
      std::replace(name.begin(), name.end(), '.', '_');
      return name;
    });

// The grey of frame n of a clip whose frames are all of one colour.
constexpr int level(int64_t n) { return static_cast<int>(20 * n + 10); }

// Pictures 000.png, 001.png, … of rising grey.
void write_levels(const std::filesystem::path& folder, int64_t frames) {
  const at::Tensor grey = (at::arange(frames) * 20 + 10).to(at::kByte).view({frames, 1, 1, 1});
  write_video(folder / "%03d.png", {grey.expand({frames, 4, 6, 3}).contiguous(), 8});
}

std::vector<int> levels_of(const Video& video) {
  std::vector<int> levels;
  for (int64_t i = 0; i < video.num_frames(); ++i) levels.push_back(video.frames[i][0][0][0].item<int>());
  return levels;
}

// Which stored frame of a golden clip each frame of `video` is.
std::vector<int64_t> sources_of(const Video& video, const std::string& name, int64_t stored) {
  const at::Tensor golden = golden_frames(name, {stored, video.height(), video.width(), 3}).to(at::kInt);
  std::vector<int64_t> sources;
  for (int64_t i = 0; i < video.num_frames(); ++i) {
    sources.push_back((golden - video.frames[i].to(at::kInt)).abs().flatten(1).sum(1).argmin().item<int64_t>());
  }
  return sources;
}

using Indices = std::vector<int64_t>;

TEST(ReaderTest, VariableRateIsResampledByTimeStamps) {
  // The stored frames stand at 0, 0.1, 0.2, 0.8, 0.9 and 1.0 s.
  EXPECT_EQ(sources_of(read_video(clip("variable.mp4"), {.fps = 10}), "variable.mp4", 6),
            (Indices{0, 1, 2, 2, 2, 2, 2, 2, 3, 4, 5}));
  EXPECT_EQ(sources_of(read_video(clip("variable.mp4"), {.fps = 5}), "variable.mp4", 6), (Indices{0, 2, 2, 2, 3, 5}));
  EXPECT_EQ(sources_of(read_video(clip("variable.mp4"), {.start = 0.75, .fps = 20}), "variable.mp4", 6),
            (Indices{2, 3, 3, 4, 4, 5, 5}));
}

TEST(ReaderTest, ConstantRateIsKeptWhenItsOwnRateIsAskedFor) {
  // Matroska rounds 1001/30000 s to whole milliseconds.
  EXPECT_EQ(sources_of(read_video(clip("ntsc.mkv"), {.fps = 30000.0 / 1001}), "ntsc.mkv", 5), (Indices{0, 1, 2, 3, 4}));
  EXPECT_EQ(sources_of(read_video(clip("h264.mp4"), {.fps = 4}), "h264.mp4", 8), (Indices{0, 2, 4, 6}));
}

TEST(ReaderTest, StartAndCountSelectFrames) {
  EXPECT_EQ(sources_of(read_video(clip("h264.mp4"), {.start = 0.5}), "h264.mp4", 8), (Indices{4, 5, 6, 7}));
  EXPECT_EQ(sources_of(read_video(clip("h264.mp4"), {.start = 0.25, .num_frames = 3}), "h264.mp4", 8), (Indices{2, 3, 4}));
  EXPECT_EQ(sources_of(read_video(clip("b_frames.avi"), {.start = 0.625}), "b_frames.avi", 8), (Indices{5, 6, 7}));
  EXPECT_THROW(read_video(clip("h264.mp4"), {.start = 1}), Error);
}

TEST(ReaderTest, SeekingInALongClipFindsTheSameFrames) {
  EXPECT_EQ(sources_of(read_video(clip("variable.mp4"), {.start = 1}), "variable.mp4", 6), (Indices{5}));
  const testing::TemporaryFolder folder;
  const at::Tensor grey = (at::arange(40) * 5 + 10).to(at::kByte).view({40, 1, 1, 1});
  write_video(folder / "a.mkv", {grey.expand({40, 16, 16, 3}).contiguous(), 8});
  write_video(folder / "a.mp4", {grey.expand({40, 16, 16, 3}).contiguous(), 8}, {.crf = 0});
  for (const char* name : {"a.mkv", "a.mp4"}) {
    const Video whole = read_video(folder / name), part = read_video(folder / name, {.start = 3.25, .num_frames = 5});
    EXPECT_EQ(max_difference(part.frames, whole.frames.narrow(0, 26, 5)), 0) << name;
  }
}

TEST(ReaderTest, ChunksGiveTheWholeClip) {
  VideoReader reader(clip("h264.mp4"));
  EXPECT_EQ(reader.num_frames_hint(), 8);
  EXPECT_EQ(reader.height(), 18);
  EXPECT_EQ(reader.width(), 16);
  std::vector<at::Tensor> parts;
  for (at::Tensor part = reader.read(3); part.defined(); part = reader.read(3)) parts.push_back(part);
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[2].size(0), 2);
  EXPECT_EQ(max_difference(at::cat(parts), read_video(clip("h264.mp4")).frames), 0);
  EXPECT_FALSE(reader.read(1).defined());
}

TEST(ReaderTest, HintsFollowTheOptions) {
  EXPECT_EQ(VideoReader(clip("variable.mp4"), {.fps = 10}).num_frames_hint(), 11);
  EXPECT_EQ(VideoReader(clip("h264.mp4"), {.start = 0.5}).num_frames_hint(), 4);
  EXPECT_EQ(VideoReader(clip("h264.mp4"), {.num_frames = 100}).num_frames_hint(), 8);
}

TEST(ReaderTest, ExifOrientationIsApplied) {
  // Red lies top left and blue bottom right in the stored picture; where they come to lie is what Exif defines.
  const at::Tensor upright = read_image(clip("exif1.jpg")).frames[0];
  const at::Tensor turned = upright.transpose(0, 1);
  const at::Tensor expected[] = {upright, upright.flip(1), upright.flip({0, 1}), upright.flip(0),
                                 turned, turned.flip(1), turned.flip({0, 1}), turned.flip(0)};
  for (int i = 0; i < 8; ++i) {
    const Video picture = read_image(clip("exif" + std::to_string(i + 1) + ".jpg"));
    EXPECT_EQ(max_difference(picture.frames[0], expected[i]), 0) << i + 1;
  }
  EXPECT_GT(upright[2][2][0].item<int>(), 200);   // red
  EXPECT_GT(upright[13][20][2].item<int>(), 200); // blue
}

TEST(ReaderTest, PhotographsAreNearToPillows) {
  const Video picture = read_image(clip("photo.jpg"));  // chroma of half size
  const at::Tensor pillow = golden_frames("photo.jpg", picture.frames.sizes());
  EXPECT_LE((picture.frames.to(at::kInt) - pillow.to(at::kInt)).abs().to(at::kFloat).mean().item<float>(), 1.5f);  // 5.0 without interpolation
}

TEST(ReaderTest, AVideoIsNoPicture) {
  for (const char* name : {"h264.mp4", "animated.gif"}) {
    EXPECT_THAT(error_of([&] { read_image(clip(name)); }), HasSubstr("holds more than one picture")) << name;
  }
}

// Baseline TIFF of one pixel, 10, 20, 30, whose last tag FFmpeg does not know.
TEST(ReaderTest, TiffTagsThatNobodyKnowsAreNoDamage) {
  std::string bytes("II*\0\x08\0\0\0", 8);
  const auto put = [&](uint32_t value, int size) {
    for (int i = 0; i < size; ++i) bytes += static_cast<char>(value >> 8 * i);
  };
  const std::vector<std::array<uint32_t, 4>> tags = {  // tag, type (3: 16 bits), count, value or place
      {256, 3, 1, 1}, {257, 3, 1, 1}, {258, 3, 3, 134}, {259, 3, 1, 1}, {262, 3, 1, 2}, {273, 4, 1, 140},
      {277, 3, 1, 3}, {278, 3, 1, 1}, {279, 4, 1, 3}, {65000, 3, 1, 7}};
  put(tags.size(), 2);
  for (const auto& [tag, type, count, value] : tags) put(tag, 2), put(type, 2), put(count, 4), put(value, 4);
  put(0, 4);
  for (int i = 0; i < 3; ++i) put(8, 2);
  for (const uint32_t value : {10, 20, 30}) put(value, 1);
  const testing::TemporaryFolder folder;
  testing::write_file(folder / "a.tiff", bytes);
  EXPECT_TRUE(at::equal(read_image(folder / "a.tiff").frames.flatten(), at::tensor({10, 20, 30}, at::kByte)));
  testing::write_file(folder / "cut.tiff", bytes.substr(0, 141));
  EXPECT_THAT(error_of([&] { read_image(folder / "cut.tiff"); }), HasSubstr("is a damaged picture"));
}

TEST(ReaderTest, FoldersAndPatternsAreReadInTheOrderOfTheirNumbers) {
  const testing::TemporaryFolder folder;
  write_levels(folder.path(), 3);
  std::filesystem::rename(folder / "000.png", folder / "frame_9.png");
  std::filesystem::rename(folder / "001.png", folder / "frame_10.png");
  std::filesystem::rename(folder / "002.png", folder / "frame_100.png");
  testing::write_file(folder / "notes.txt", "no picture");
  const Video video = read_video(folder.path());
  EXPECT_EQ(levels_of(video), (std::vector<int>{level(0), level(1), level(2)}));
  EXPECT_EQ(video.fps, 24);
  EXPECT_EQ(levels_of(read_video(folder / "frame_%d.png", {.start = 0.1, .fps = 10})), (std::vector<int>{level(1), level(2)}));
  EXPECT_EQ(read_video(folder.path(), {.fps = 10}).fps, 10);
}

TEST(ReaderTest, PicturesOfMixedSizesAreRefused) {
  const testing::TemporaryFolder folder;
  write_levels(folder.path(), 2);
  write_video(folder / "009.png", {at::zeros({1, 4, 5, 3}, at::kByte), 0});
  EXPECT_THAT(error_of([&] { read_video(folder.path()); }, ErrorKind::kMedia),
              HasSubstr("009.png: does not have the size of the pictures before it; expected 6x4 as 000.png, got 5x4"));
}

TEST(ReaderTest, FolderWithoutPicturesIsRefused) {
  const testing::TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { read_video(folder.path()); }, ErrorKind::kMedia), HasSubstr("is a folder with no pictures in it; give"));
}

TEST(ReaderTest, FramesAreResized) {
  const Video video = read_video(clip("h264.mp4"), {.num_frames = 2, .size = {.height = 9, .width = 11}});
  EXPECT_EQ(video.frames.sizes(), (at::IntArrayRef{2, 9, 11, 3}));
  const Video whole = read_video(clip("h264.mp4"), {.num_frames = 2});
  EXPECT_EQ(max_difference(video.frames, resize(whole, {.height = 9, .width = 11}).frames), 0);
}

struct Damaged {
  const char* name;
  const char* message;
};

void PrintTo(const Damaged& damaged, std::ostream* out) { *out << damaged.name; }

class DamagedInput : public ::testing::TestWithParam<Damaged> {};

TEST_P(DamagedInput, OneClearLineAndNothingOnTheHostsLog) {
  const int level = av_log_get_level();
  ::testing::internal::CaptureStderr();
  const std::string message = error_of([] { read_video(clip(GetParam().name)); });
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(av_log_get_level(), level);
  EXPECT_THAT(message, AllOf(StartsWith("media: "), HasSubstr(GetParam().name), HasSubstr(GetParam().message)));
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Files, DamagedInput,
    ::testing::Values(Damaged{"cut_off.mp4", "after 5 good frames"}, Damaged{"no_index.mp4", "is an incomplete MP4"},
                      Damaged{"text.mp4", "is neither a video nor a picture"}, Damaged{"empty.mp4", "is empty"},
                      Damaged{"no_frames.mp4", "holds no video"}, Damaged{"no_samples.mp4", "not a single frame"},
                      Damaged{"sound.mp4", "holds no video"},
                      Damaged{"cut_off.webm", "is damaged"}, Damaged{"cut_off.png", "is a damaged picture"},
                      Damaged{"cut_off.jpg", "is a damaged picture"}, Damaged{"cut_off.avi", "is damaged"}, Damaged{"missing.mp4", "does not exist"},
                      Damaged{"absent/%d.png", "folder cannot be listed"},
                      Damaged{"x%03d.png", "no file matches this pattern; the first could be"}));

TEST(ReaderTest, GoodFramesBeforeTheDamageAreGiven) {
  VideoReader reader(clip("cut_off.mp4"));
  const at::Tensor good = reader.read(100);
  ASSERT_TRUE(good.defined());
  EXPECT_EQ(max_difference(good, read_video(clip("h264.mp4")).frames.narrow(0, 0, good.size(0))), 0);
  EXPECT_THROW(reader.read(1), Error);
  EXPECT_THROW(reader.read(1), Error);
  // Who asks for no more than the good ones is not troubled.
  EXPECT_EQ(read_video(clip("cut_off.mp4"), {.num_frames = good.size(0)}).num_frames(), good.size(0));
}

TEST(ReaderTest, OptionsThatMakeNoSenseAreRefused) {
  for (const ReadOptions& options : {ReadOptions{.start = -1}, ReadOptions{.num_frames = 0}, ReadOptions{.fps = 0},
                                     ReadOptions{.fps = NAN}, ReadOptions{.size = {.height = -1}}}) {
    EXPECT_THROW(read_video(clip("h264.mp4"), options), Error);
  }
  EXPECT_THROW(read_video("frames/%s.png"), Error);
}

}  // namespace
}  // namespace orrery
