#include "orrery/autoencoder.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <limits>

#include "orrery/error.h"
#include "support/compare.h"
#include "support/counting_codec.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr CodecSpec kCausal{.spatial_stride = 8, .temporal_stride = 4, .latent_channels = 3, .causal = true};
constexpr CodecSpec kWindowed{.temporal_stride = 8, .latent_channels = 3, .causal = true, .window_frames = 17};
constexpr CodecSpec kPadding{.temporal_stride = 4, .latent_channels = 3, .causal = true, .pads_time = true};

TEST(CodecSpecTest, CausalFramesAndLatents) {
  EXPECT_EQ(kCausal.latent_frames(1), 1);
  EXPECT_EQ(kCausal.latent_frames(17), 5);
  EXPECT_EQ(kCausal.pixel_frames(5), 17);
}

TEST(CodecSpecTest, MisfitsNameTheNearestCounts) {
  EXPECT_THAT([] { kCausal.latent_frames(7); }, ThrowsMessage<Error>(HasSubstr("4n+1 frames (5 or 9), got 7")));
  EXPECT_THAT([] { kCausal.latent_frames(0); }, ThrowsMessage<Error>(HasSubstr("(1), got 0")));
  EXPECT_THAT([] { kWindowed.latent_frames(20); }, ThrowsMessage<Error>(HasSubstr("(18 or 26), got 20")));
}

TEST(CodecSpecTest, EveryWindowStartsAfresh) {
  EXPECT_EQ(kWindowed.latent_frames(17), 3);
  EXPECT_EQ(kWindowed.latent_frames(34), 6);
  EXPECT_EQ(kWindowed.latent_frames(35), 7);
  EXPECT_EQ(kWindowed.pixel_frames(6), 34);
  EXPECT_EQ(kWindowed.pixel_frames(7), 35);
}

TEST(CodecSpecTest, ATokenizerThatPadsTakesAnyCount) {
  EXPECT_EQ(kPadding.latent_frames(4), 1);
  EXPECT_EQ(kPadding.latent_frames(5), 2);
  EXPECT_EQ(kPadding.pixel_frames(2), 5);
}

TEST(CodecSpecTest, SizesNameTheNearestThatFit) {
  EXPECT_NO_THROW(kCausal.check_size(16, 24));
  EXPECT_THAT([] { kCausal.check_size(20, 24); }, ThrowsMessage<Error>(HasSubstr("(16x24 or 24x24), got 20x24")));
  EXPECT_THAT([] { kCausal.check_size(5, 24); }, ThrowsMessage<Error>(HasSubstr("(8x24), got 5x24")));
}

using testing::Counting;

TEST(AutoencoderTest, ChunksAreTheWhole) {
  const Counting codec(kCausal);
  const at::Tensor sample = at::rand({2, 3, 9, 16, 24});
  const at::Tensor latent = codec.encode(sample).latent, decoded = codec.decode(latent);
  EXPECT_EQ(latent.sizes(), (std::vector<int64_t>{2, 3, 3, 2, 3}));
  EXPECT_EQ(decoded.sizes(), sample.sizes());
  for (const int64_t chunk : {1, 2, 3, 5}) {
    EXPECT_TRUE(testing::is_close(codec.encode(sample, chunk).latent, latent, testing::kExact));
    EXPECT_TRUE(testing::is_close(codec.decode(latent, chunk), decoded, testing::kExact));
  }
}

TEST(AutoencoderTest, WindowsStartAfresh) {
  const Counting codec(kWindowed);
  const at::Tensor sample = at::rand({1, 3, 34, 8, 8});
  const at::Tensor latent = codec.encode(sample, 5).latent;
  EXPECT_TRUE(testing::is_close(latent.narrow(2, 3, 3), codec.encode(sample.narrow(2, 17, 17)).latent, testing::kExact));
  EXPECT_TRUE(
      testing::is_close(codec.decode(latent, 2).narrow(2, 17, 17), codec.decode(latent.narrow(2, 3, 3)), testing::kExact));
}

TEST(AutoencoderTest, AnImageTokenizerHasNoTimeAxis) {
  const Counting codec({.spatial_stride = 8, .latent_channels = 3, .image = true});
  const TensorMap encoded = codec.call("encode", {{"sample", at::rand({2, 3, 16, 8})}}, {});
  EXPECT_EQ(encoded.at("latent").sizes(), (std::vector<int64_t>{2, 3, 2, 1}));
  EXPECT_EQ(codec.call("decode", encoded, {}).at("sample").sizes(), (std::vector<int64_t>{2, 3, 16, 8}));
}

TEST(AutoencoderTest, WrongInputsAreNamed) {
  const Counting codec(kCausal);
  const at::Tensor good = at::rand({1, 3, 5, 8, 8});
  EXPECT_THAT(
      [&] {
        codec.call("encode", {{"video", good}}, {});
      },
      ThrowsMessage<Error>(HasSubstr("expected a tensor named 'sample', got 'video'")));
  EXPECT_THAT(
      [&] {
        codec.call("forward", {{"sample", good}}, {});
      },
      ThrowsMessage<Error>(HasSubstr("vae.encode or vae.decode")));
  EXPECT_THAT([&] { codec.encode(good.squeeze(0)); }, ThrowsMessage<Error>(HasSubstr("[B, 3, T, H, W], got [3, 5, 8, 8]")));
  EXPECT_THAT([&] { codec.decode(at::rand({1, 4, 1, 2, 2})); }, ThrowsMessage<Error>(HasSubstr("[B, 3, t, h, w]")));
  EXPECT_THAT(
      [&] {
        codec.call("decode", {{"indices", at::zeros({1, 1, 2, 2}, at::kInt)}}, {});
      },
      ThrowsMessage<Error>(HasSubstr("has no indices")));
}

TEST(AutoencoderTest, WhatIsNotFiniteIsNeverHandedOn) {
  const Counting codec(kCausal);
  at::Tensor sample = at::rand({1, 3, 1, 8, 8});
  sample.view(-1)[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT([&] { codec.encode(sample); },
              ThrowsMessage<Error>(HasSubstr("argument: sample: holds values that are not finite")));
}

}  // namespace
}  // namespace orrery
