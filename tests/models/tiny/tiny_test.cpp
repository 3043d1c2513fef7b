#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include "models/tiny/taehv.h"
#include "models/tiny/taesd.h"
#include "orrery/error.h"
#include "orrery/load.h"
#include "support/compare.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery::models {
namespace {

using ::orrery::testing::golden_folder;
using ::orrery::testing::is_close;
using ::orrery::testing::kExact;
using ::orrery::testing::kSameMath;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::unique_ptr<Autoencoder> load(const std::filesystem::path& path) {
  return std::unique_ptr<Autoencoder>(dynamic_cast<Autoencoder*>(load_component(path.string(), "vae").release()));
}

std::filesystem::path taehv_file(const std::string& name) {
  return golden_folder() / (name + "_encode") / "model" / (name + ".safetensors");
}

class TaehvTest : public ::testing::TestWithParam<const char*> {};

// Neither the chunk nor the batch may show in the result: memory blocks, pooled frames and dropped frames all cross chunks.
TEST_P(TaehvTest, ChunksOfAnySizeGiveTheWholeClip) {
  const auto model = load(taehv_file(GetParam()));
  const int64_t side = model->spec().spatial_stride;
  at::manual_seed(5);
  const auto sample = at::rand({2, 3, 11, 2 * side, 3 * side}) * 2 - 1;
  const auto latent = model->encode(sample, 12).latent;
  ASSERT_EQ(latent.size(2), 3);
  const auto decoded = model->decode(latent, 3);
  ASSERT_EQ(decoded.size(2), 9);
  for (int64_t chunk : {1, 2, 3, 5}) {
    EXPECT_TRUE(is_close(model->encode(sample, chunk).latent, latent, kSameMath)) << chunk;
    EXPECT_TRUE(is_close(model->decode(latent, chunk), decoded, kSameMath)) << chunk;
  }
  EXPECT_TRUE(is_close(model->encode(sample.narrow(0, 1, 1)).latent, latent.narrow(0, 1, 1), kSameMath));
  EXPECT_TRUE(is_close(model->decode(latent.narrow(0, 1, 1)), decoded.narrow(0, 1, 1), kSameMath));
}

TEST_P(TaehvTest, ACopiedCacheIsAForkOfTheStream) {
  const auto model = load(taehv_file(GetParam()));
  at::manual_seed(6);
  const auto latent = at::randn({1, model->spec().latent_channels, 4, 2, 2});
  CodecCache cache;
  model->decode_chunk(latent.narrow(2, 0, 2), cache, false);
  CodecCache fork = cache;
  const auto first = model->decode_chunk(latent.narrow(2, 2, 1), cache, false);
  model->decode_chunk(latent.narrow(2, 3, 1), fork, false);  // another future, which must not reach the first
  const auto after = model->decode_chunk(latent.narrow(2, 3, 1), cache, true);
  const auto whole = model->decode(latent);
  EXPECT_TRUE(is_close(first, whole.narrow(2, 5, 4), kSameMath));
  EXPECT_TRUE(is_close(after, whole.narrow(2, 9, 4), kSameMath));
}

INSTANTIATE_TEST_SUITE_P(Variants, TaehvTest, ::testing::Values("taew2_1", "taehv1_5", "taew2_2_super"));

TEST(TaehvDescribeTest, ReadsTheArchitectureOffTheTensors) {
  const auto config = describe_taehv(Weights::open(taehv_file("taew2_2_super")));
  ASSERT_TRUE(config);
  EXPECT_EQ(config->get("arch_variant", std::string()), "super");
  EXPECT_EQ(config->get<int64_t>("patch_size", 0), 2);
  EXPECT_EQ(config->get<int64_t>("latent_channels", 0), 48);
  EXPECT_EQ(config->get("encoder_time_downscale", std::vector<bool>()), (std::vector<bool>{true, true, false}));
  EXPECT_EQ(config->get("decoder_time_upscale", std::vector<bool>()), (std::vector<bool>{false, true, true}));
  EXPECT_EQ(config->get("decoder_widths", std::vector<int64_t>()), (std::vector<int64_t>{32, 24, 16, 16}));
}

TEST(TaehvDescribeTest, AMissingTensorIsNamed) {
  auto tensors = load_safetensors(taehv_file("taew2_1"));
  tensors.erase("decoder.10.conv.2.bias");
  const auto weights = Weights::from(tensors, "a.safetensors");
  EXPECT_THAT([&] { build_taehv(*describe_taehv(weights), weights); },
              ThrowsMessage<Error>(HasSubstr("decoder.10.conv.2.bias")));
}

TEST(TaehvDescribeTest, RelativesWithOtherFramingAreRefused) {
  const auto tensors = load_safetensors(taehv_file("taew2_1"));
  EXPECT_THAT([&] { describe_taehv(Weights::from(tensors, "models/taecvx.safetensors")); },
              ThrowsMessage<Error>(HasSubstr("taecvx")));
}

TEST(TaesdTest, TwoFilesOfAFolderAreOneTokenizer) {
  const auto folder = golden_folder() / "taesana_form_encode" / "model";
  const auto model = load(folder);
  EXPECT_TRUE(model->has_encoder() && model->has_decoder());
  EXPECT_EQ(model->spec().spatial_stride, 32);
  const auto alone = load(folder / "taesana_form_decoder.safetensors");
  EXPECT_FALSE(alone->has_encoder());
  EXPECT_EQ(alone->spec().spatial_stride, 32);
  const auto latent = at::randn({1, 7, 1, 2, 3});
  EXPECT_TRUE(is_close(alone->decode(latent), model->decode(latent), kExact));
  EXPECT_THAT([&] { alone->encode(at::zeros({1, 3, 1, 64, 64})); }, ThrowsMessage<Error>(HasSubstr("only a decoder")));
}

TEST(TaesdTest, HalvesOfTwoModelsAreRefused) {
  testing::TemporaryFolder folder;
  const auto model = golden_folder() / "taesana_form_encode" / "model";
  std::filesystem::copy(model / "taesana_form_encoder.safetensors", folder / "x_encoder.safetensors");
  auto decoder = load_safetensors(model / "taesana_form_decoder.safetensors");
  decoder["1.weight"] = at::zeros({20, 9, 3, 3});
  save_safetensors(folder / "x_decoder.safetensors", decoder);
  EXPECT_THAT([&] { load(folder.path()); }, ThrowsMessage<Error>(HasSubstr("two models")));
}

TEST(TaesdTest, FramesOfAClipAreCodedAlone) {
  const auto model = load(golden_folder() / "taef2_form_encode" / "model");
  at::manual_seed(7);
  const auto sample = at::rand({2, 3, 3, 24, 40}) * 2 - 1;
  const auto latent = model->encode(sample).latent;
  for (int64_t t = 0; t < 3; ++t) {
    EXPECT_TRUE(is_close(model->encode(sample.narrow(2, t, 1)).latent, latent.narrow(2, t, 1), kSameMath));
  }
  EXPECT_TRUE(is_close(model->decode(latent, 3), model->decode(latent, 1), kSameMath));
}

TEST(AutoencoderTinyTest, UnknownActivationIsNamed) {
  const auto weights = Weights::open(golden_folder() / "autoencoder_tiny_encode" / "model");
  EXPECT_THAT([&] { build_autoencoder_tiny(Config().with("act_fn", std::string("tanh")), weights); },
              ThrowsMessage<Error>(HasSubstr("one of relu, silu")));
}

}  // namespace
}  // namespace orrery::models
