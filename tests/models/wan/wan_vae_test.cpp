#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "layers/causal_conv3d.h"
#include "models/wan/wan.h"
#include "models/wan/wan_vae_blocks.h"
#include "orrery/autoencoder.h"
#include "orrery/error.h"
#include "orrery/load.h"
#include "support/compare.h"
#include "support/errors.h"
#include "support/paths.h"

namespace orrery::models {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

std::unique_ptr<Component> load(const std::string& name) {
  return load_component((testing::golden_folder() / name / "model").string(), "vae");
}

TEST(WanVaeTest, FramesLeftOverAtTheEndNameTheCountsThatFit) {
  const auto component = load("wan21_vae_encode");
  const auto& vae = dynamic_cast<const Autoencoder&>(*component);
  CodecCache cache;
  const at::Tensor sample = at::zeros({1, 3, 7, 16, 24});
  EXPECT_EQ(vae.encode_chunk(sample, cache, false).latent.size(2), 2);
  EXPECT_EQ(cache.pending.size(2), 2);
  const std::string message = error_of([&] { vae.encode_chunk(sample.narrow(2, 0, 1), cache, true); });
  EXPECT_THAT(message, HasSubstr("5"));
  EXPECT_THAT(message, HasSubstr("9"));
}

TEST(WanVaeTest, ChunkOfAnotherSizeIsRefused) {
  const auto component = load("wan22_vae_encode");
  const auto& vae = dynamic_cast<const Autoencoder&>(*component);
  CodecCache cache;
  vae.decode_chunk(at::zeros({1, 6, 1, 2, 3}), cache, false);
  EXPECT_THAT(error_of([&] { vae.decode_chunk(at::zeros({1, 6, 1, 3, 3}), cache, false); }), HasSubstr("does not continue"));
}

TEST(WanVaeTest, CopiedCacheForksTheStream) {
  const auto component = load("wan21_vae_encode");
  const auto& vae = dynamic_cast<const Autoencoder&>(*component);
  at::manual_seed(3);
  const at::Tensor latent = at::randn({1, 4, 3, 2, 3});
  CodecCache cache;
  vae.decode_chunk(latent.narrow(2, 0, 1), cache, false);
  CodecCache fork = cache;
  vae.decode_chunk(at::randn({1, 4, 2, 2, 3}), fork, true);
  const at::Tensor rest = vae.decode_chunk(latent.narrow(2, 1, 2), cache, true);
  EXPECT_TRUE(testing::is_close(rest, vae.decode(latent).narrow(2, 1, 8), testing::kSameMath));
}

TEST(WanVaeTest, EmptyChunksChangeNothing) {
  const auto component = load("wan21_vae_encode");
  const auto& vae = dynamic_cast<const Autoencoder&>(*component);
  at::manual_seed(4);
  const at::Tensor latent = at::randn({1, 4, 2, 2, 3});
  CodecCache cache;
  EXPECT_EQ(vae.decode_chunk(latent.narrow(2, 0, 0), cache, false).size(2), 0);
  const at::Tensor sample = vae.decode_chunk(latent, cache, false);
  EXPECT_EQ(vae.decode_chunk(latent.narrow(2, 0, 0), cache, true).size(2), 0);
  EXPECT_TRUE(testing::is_close(sample, vae.decode(latent), testing::kSameMath));
}

TEST(WanVaeTest, StatisticsOfOtherLatentsAreRefusedWhenTheyAreAskedFor) {
  const auto weights = Weights::open(testing::golden_folder() / "wan21_vae_encode" / "model").to(at::kFloat);
  const Config config = Config::load(testing::golden_folder() / "wan21_vae_encode" / "model" / "config.json");
  const auto good = build_autoencoder_kl_wan(config, weights);
  EXPECT_EQ(dynamic_cast<const Autoencoder&>(*good).normalization().mean.size(0), 4);
  const auto bad = build_autoencoder_kl_wan(config.with("latents_mean", std::vector<double>{1, 2}), weights);
  EXPECT_THAT(error_of([&] { dynamic_cast<const Autoencoder&>(*bad).normalization(); }), HasSubstr("latents_mean"));
}

TEST(WanVaeTest, ContradictoryConfigsAreRefused) {
  const auto refusal = [](const std::string& json) {
    return error_of([&] { WanVaeConfig::from(Config::parse(json, "config.json")); });
  };
  EXPECT_THAT(refusal(R"({"dim_mult": [1, 2, 4, 4], "temperal_downsample": [true]})"), HasSubstr("temperal_downsample"));
  EXPECT_THAT(refusal(R"({"patch_size": 2})"), HasSubstr("in_channels"));
  EXPECT_THAT(refusal(R"({"base_dim": 0})"), HasSubstr("base_dim"));
  EXPECT_THAT(refusal(R"({"dim_mult": []})"), HasSubstr("dim_mult"));
  EXPECT_THAT(refusal(R"({"is_residual": true, "dim_mult": [4, 2], "temperal_downsample": [false]})"),
              HasSubstr("no error"));
  EXPECT_THAT(refusal(R"({"is_residual": true, "dim_mult": [1, 5], "temperal_downsample": [false]})"),
              HasSubstr("dim_mult"));
}

TEST(WanVaeTest, TensorsAloneTellTheConfig) {
  for (const char* name : {"wan21_vae_original_encode", "wan22_vae_original_encode", "wan21_vae_attention_encode"}) {
    const auto weights = Weights::open(testing::golden_folder() / name / "model");
    const auto config = describe_wan_vae(weights);
    ASSERT_TRUE(config) << name;
    const auto expected = WanVaeConfig::from(Config::load(testing::golden_folder() / name / "case.json").object("config"));
    const auto read = WanVaeConfig::from(*config);
    EXPECT_EQ(read.base_dim, expected.base_dim) << name;
    EXPECT_EQ(read.decoder_base_dim, expected.decoder_base_dim) << name;
    EXPECT_EQ(read.z_dim, expected.z_dim) << name;
    EXPECT_EQ(read.dim_mult, expected.dim_mult) << name;
    EXPECT_EQ(read.num_res_blocks, expected.num_res_blocks) << name;
    EXPECT_EQ(std::set(read.attn_scales.begin(), read.attn_scales.end()),
              std::set(expected.attn_scales.begin(), expected.attn_scales.end()))
        << name;
    EXPECT_EQ(read.temperal_downsample, expected.temperal_downsample) << name;
    EXPECT_EQ(read.is_residual, expected.is_residual) << name;
    EXPECT_EQ(read.patch_size, expected.patch_size) << name;
  }
}

// A frame that outweighs the kernel is summed tap by tap, large ones of many channels are filtered by Winograd's way, others
// go through one convolution: all must be the textbook's.
TEST(CausalConv3dTest, EqualsAConvolutionPaddedInFront) {
  at::manual_seed(5);
  for (const auto& [side, in, out] : {std::tuple<int64_t, int64_t, int64_t>{2, 3, 5}, {9, 3, 5}, {17, 18, 16}, {9, 17, 4}}) {
    const at::Tensor weight = at::randn({out, in, 3, 3, 3}), bias = at::randn({out}),
                     x = at::randn({2, 7, side, side + 1, in});
    const at::Tensor residual = at::randn({2, 7, side, side + 1, out});
    int64_t slots = 1;
    const layers::CausalConv3d conv(Weights::from({{"weight", weight}, {"bias", bias}}, "memory"), {.in = in, .out = out},
                                    slots);
    EXPECT_EQ(slots, 3);
    const at::Tensor padded = at::constant_pad_nd(x.permute({0, 4, 1, 2, 3}), {1, 1, 1, 1, 2, 0});
    const at::Tensor expected = at::conv3d(padded, weight, bias).permute({0, 2, 3, 4, 1}) + residual;
    for (const int64_t chunk : {1, 2, 3, 7}) {
      CodecCache cache;
      cache.slots.resize(3);
      std::vector<at::Tensor> parts;
      for (int64_t begin = 0; begin < 7; begin += chunk) {
        const int64_t count = std::min(chunk, 7 - begin);
        parts.push_back(conv(x.narrow(1, begin, count), cache, residual.narrow(1, begin, count)));
      }
      EXPECT_TRUE(testing::is_close(at::cat(parts, 1), expected, testing::kSameMath))
          << side << ", " << chunk << " at a time";
    }
  }
}

// float32 goes Winograd's way from some size on, float64 never.
TEST(WanUpsampleTest, DoublesAndConvolvesAtAnySize) {
  at::manual_seed(6);
  for (const auto& [side, in, out] : {std::tuple<int64_t, int64_t, int64_t>{3, 4, 2}, {9, 32, 16}}) {
    const at::Tensor weight = at::randn({out, in, 3, 3}), bias = at::randn({out}), x = at::randn({1, 3, side, side + 2, in});
    int64_t slots = 0;
    const WanUpsample up(Weights::from({{"resample.1.weight", weight}, {"resample.1.bias", bias}}, "memory"), in, out, false,
                         slots);
    CodecCache cache;
    const at::Tensor doubled =
        x.to(at::kDouble).repeat_interleave(2, 2).repeat_interleave(2, 3).flatten(0, 1).permute({0, 3, 1, 2});
    const at::Tensor expected =
        at::conv2d(doubled, weight.to(at::kDouble), bias.to(at::kDouble), 1, 1).permute({0, 2, 3, 1}).unsqueeze(0);
    EXPECT_TRUE(testing::is_close(up(x, cache, true), expected.to(at::kFloat), testing::kSameMath)) << side;
  }
}

}  // namespace
}  // namespace orrery::models
