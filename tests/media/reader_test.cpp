#include "orrery/media.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "support/media_data.h"

namespace orrery {
namespace {

using testing::clip;
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
                      Clip{"nv12.mkv", 2, 16, 18, 8, 2}, Clip{"variable.mp4", 6, 16, 18, 5, 2},
                      Clip{"rotated90.mp4", 2, 16, 18, 8, 2}, Clip{"rotated180.mp4", 2, 18, 16, 8, 2},
                      Clip{"rotated270.mp4", 2, 16, 18, 8, 2}, Clip{"gray.png", 1, 5, 7, 0, 0},
                      Clip{"palette.png", 1, 5, 9, 0, 0}, Clip{"deep.png", 1, 5, 9, 0, 1}),
    [](const auto& info) {
      std::string name = info.param.name;
      std::replace(name.begin(), name.end(), '.', '_');
      return name;
    });

}  // namespace
}  // namespace orrery
