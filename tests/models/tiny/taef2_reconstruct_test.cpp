// The bundled tokenizer on real pictures, from file to frames, against the PSNR that the original code reaches on them.
#include <gtest/gtest.h>

#include "orrery/config.h"
#include "orrery/media.h"
#include "orrery/metrics.h"
#include "orrery/tokenizer.h"
#include "support/paths.h"

namespace orrery {
namespace {

constexpr double kDecibels = 0.01;

double round_trip_psnr(const Video& video) {
  const auto tokenizer = Tokenizer::from_pretrained((testing::source_root() / "examples/models/taef2").string());
  const auto latents = tokenizer.encode(video);
  EXPECT_EQ(latents.video.sizes(), (at::IntArrayRef{1, 32, video.num_frames(), 36, 64}));
  return psnr(tokenizer.decode(latents), video);
}

TEST(Taef2ReconstructTest, ReachesTheOriginalsPsnr) {
  const auto folder = testing::golden_folder() / "taef2_reconstruct";
  const auto expected = Config::load(folder / "expected.json");
  EXPECT_NEAR(round_trip_psnr(read_image(folder / "image.png")), expected.require<double>("image_psnr_db"), kDecibels);
  const auto clip = read_video(folder / "clip.mkv");
  EXPECT_EQ(clip.num_frames(), 4);
  EXPECT_NEAR(round_trip_psnr(clip), expected.require<double>("clip_psnr_db"), kDecibels);
}

}  // namespace
}  // namespace orrery
