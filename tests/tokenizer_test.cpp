#include "orrery/tokenizer.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <filesystem>

#include "orrery/error.h"
#include "support/compare.h"
#include "support/counting_codec.h"
#include "support/far_device.h"
#include "support/paths.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr CodecSpec kCausal{.spatial_stride = 8, .temporal_stride = 4, .latent_channels = 3, .causal = true};

Tokenizer tokenizer_of(CodecSpec spec, LatentNormalization normalization = {}) {
  return Tokenizer(std::make_shared<testing::Counting>(spec, std::move(normalization)));
}

Video noise(int64_t frames, int64_t height, int64_t width) {
  return {at::randint(256, {frames, height, width, 3}, at::kByte), 10};
}

// Of 8-bit values: 1 where the same sum in another order rounds the other way.
int largest_difference(const Video& a, const Video& b) {
  return (a.frames.to(at::kInt) - b.frames.to(at::kInt)).abs().max().item<int>();
}

TEST(TokenizerTest, AClipThatDoesNotFitIsRefusedUnlessAskedFor) {
  const Tokenizer tokenizer = tokenizer_of(kCausal);
  const Video video = noise(7, 20, 30);
  EXPECT_THAT([&] { tokenizer.encode(video); }, ThrowsMessage<Error>(HasSubstr("(16x24 or 24x32), got 20x30")));
  EXPECT_THAT([&] { tokenizer.encode(noise(7, 16, 24)); }, ThrowsMessage<Error>(HasSubstr("(5 or 9), got 7")));
  EXPECT_EQ(tokenizer.encode(video, {.fit = FitMode::kPad}).video.sizes(), (std::vector<int64_t>{1, 3, 3, 3, 4}));
  EXPECT_EQ(tokenizer.encode(video, {.fit = FitMode::kTrim}).video.sizes(), (std::vector<int64_t>{1, 3, 2, 2, 3}));
}

TEST(TokenizerTest, PaddingRepeatsTheLastFrameAndTheEdges) {
  const Tokenizer tokenizer =
      tokenizer_of({.spatial_stride = 2, .temporal_stride = 2, .latent_channels = 3, .causal = true});
  const Video video = noise(2, 3, 2);
  const Video padded{at::cat({at::cat({video.frames, video.frames.narrow(1, 2, 1)}, 1),
                              at::cat({video.frames, video.frames.narrow(1, 2, 1)}, 1).narrow(0, 1, 1)},
                             0),
                     10};
  EXPECT_TRUE(testing::is_close(tokenizer.encode(video, {.fit = FitMode::kPad}).video, tokenizer.encode(padded).video,
                                testing::kExact));
}

TEST(TokenizerTest, NormalisationLiesBetweenNetworkAndDynamics) {
  const Tokenizer tokenizer =
      tokenizer_of(kCausal, {.mean = at::tensor({1.f, 2.f, 3.f}), .std = at::tensor({2.f, 4.f, 8.f})});
  const Video video = noise(5, 8, 8);
  const Latents raw = tokenizer.encode(video, {.raw = true}), normalised = tokenizer.encode(video);
  const at::Tensor mean = at::tensor({1.f, 2.f, 3.f}).view({1, 3, 1, 1, 1}),
                   std = at::tensor({2.f, 4.f, 8.f}).view({1, 3, 1, 1, 1});
  EXPECT_TRUE(testing::is_close(normalised.video, (raw.video - mean) / std, testing::kSameMath));
  EXPECT_LE(largest_difference(tokenizer.decode(normalised), tokenizer.decode(raw, {.raw = true})), 1);
}

TEST(TokenizerTest, PerFrameNormalisationStartsAgainWithEachWindow) {
  CodecSpec spec = kCausal;
  spec.window_frames = 5;
  const at::Tensor mean = at::arange(6, at::kFloat).view({3, 2}), std = at::ones({3, 2});
  const Tokenizer tokenizer = tokenizer_of(spec, {.mean = mean, .std = std});
  Video video = noise(5, 8, 8);
  video.frames = at::cat({video.frames, video.frames}, 0);
  const at::Tensor latents = tokenizer.encode(video, {.chunk = 2}).video;
  ASSERT_EQ(latents.size(2), 4);
  EXPECT_TRUE(at::equal(latents.narrow(2, 0, 2), latents.narrow(2, 2, 2)));
  EXPECT_TRUE(
      at::equal(tokenizer.decode({.video = latents}).frames, tokenizer.decode({.video = latents}, {.chunk = 1}).frames));
}

TEST(TokenizerTest, TilesOfALocalNetworkBlendToTheWhole) {
  const Tokenizer tokenizer = tokenizer_of(kCausal);
  const Video video = noise(5, 56, 72);
  const Latents whole = tokenizer.encode(video),
                tiled = tokenizer.encode(video, {.chunk = 3, .tile = 32, .tile_overlap = 16});
  EXPECT_TRUE(testing::is_close(tiled.video, whole.video, testing::kSameMath));
  EXPECT_LE(largest_difference(tokenizer.decode(whole), tokenizer.decode(whole, {.tile = 40})), 1);
}

TEST(TokenizerTest, TilesMustFitTheGrid) {
  const Tokenizer tokenizer = tokenizer_of(kCausal);
  const Video video = noise(1, 64, 64);
  EXPECT_THAT([&] { tokenizer.encode(video, {.tile = 30}); },
              ThrowsMessage<Error>(HasSubstr("a multiple of 8 pixels, got 30")));
  EXPECT_THAT([&] { tokenizer.encode(video, {.tile = 32, .tile_overlap = 32}); },
              ThrowsMessage<Error>(HasSubstr("less than 32")));
}

TEST(TokenizerTest, ProgressIsToldAndCancellingStops) {
  const Tokenizer tokenizer = tokenizer_of(kCausal);
  CodeOptions options{.chunk = 4};
  std::vector<int64_t> told;
  options.work.on_progress = [&](const Progress& progress) {
    told.push_back(progress.done);
    EXPECT_EQ(progress.total, 9);
    if (told.size() == 6) options.work.cancel.cancel();
  };
  tokenizer.encode(noise(9, 8, 8), options);
  EXPECT_EQ(told, (std::vector<int64_t>{0, 4, 8, 9}));
  EXPECT_THAT([&] { tokenizer.encode(noise(9, 8, 8), options); }, ThrowsMessage<Error>(HasSubstr("cancelled: encode")));
  EXPECT_EQ(told.size(), 6u);
}

TEST(TokenizerTest, LatentsOfAnotherModelAreNamed) {
  const Tokenizer tokenizer = tokenizer_of(kCausal);
  EXPECT_THAT(
      [&] {
        tokenizer.decode({.video = at::zeros({1, 4, 1, 2, 2})});
      },
      ThrowsMessage<Error>(HasSubstr("[1, 3, t, h, w], got [1, 4, 1, 2, 2]")));
  EXPECT_THAT([&] { tokenizer.decode(Latents{}); }, ThrowsMessage<Error>(HasSubstr("got nothing")));
}

// Clips come from the processor and go back there, wherever the networks run.
TEST(TokenizerTest, OnAnotherDeviceItCodesTheSame) {
  for (const char* name :
       {"cv8x8x8_encode", "dv8x8x8_levels_encode", "wan22_vae_encode", "autoencoder_tiny_encode", "taehv1_5_encode"}) {
    const std::string folder = (testing::golden_folder() / name / "model").string();
    const Tokenizer here = Tokenizer::from_pretrained(folder),
                    there = Tokenizer::from_pretrained(folder, {.device = testing::far_device()});
    const Video video = noise(1 + here.spec().temporal_stride, 64, 64);
    for (const int64_t tile : {int64_t{0}, here.spec().discrete() ? int64_t{0} : int64_t{32}}) {
      const CodeOptions options{.fit = FitMode::kPad, .tile = tile};
      const Latents latents = here.encode(video, options);
      EXPECT_TRUE(testing::is_close(there.encode(video, options).video, latents.video, testing::kSameMath)) << name;
      EXPECT_LE(largest_difference(there.decode(latents, options), here.decode(latents, options)), 1) << name;
    }
  }
}

TEST(TokenizerTest, AGpuThatIsNotThereIsRefused) {
  if (std::filesystem::exists("/dev/nvidiactl")) GTEST_SKIP() << "there is one";
  EXPECT_THAT(
      [] {
        Tokenizer::from_pretrained((testing::golden_folder() / "cv8x8x8_encode/model").string(), {.device = at::kCUDA});
      },
      ThrowsMessage<Error>(AllOf(HasSubstr("device: no CUDA device can be used here; expected cpu, got cuda"),
                                 HasSubstr("use --device cpu"))));
}

}  // namespace
}  // namespace orrery
