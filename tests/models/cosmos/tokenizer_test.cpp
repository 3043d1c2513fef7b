#include "models/cosmos/tokenizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "orrery/error.h"
#include "support/compare.h"
#include "support/paths.h"
#include "support/temporary.h"

// Parity with the reference is tested by the golden cases; here is what they do not see.
namespace orrery::models {
namespace {

using testing::is_close;
using testing::kSameMath;

std::filesystem::path model_folder(const std::string& name) {
  return testing::golden_folder() / (name + "_encode") / "model";
}

Weights weights_of(const std::string& name) {
  return Weights::open(model_folder(name)).to(at::kFloat);
}

CosmosAutoencoder load(const std::string& name) {
  return CosmosAutoencoder(Config::load(model_folder(name) / "config.json"), weights_of(name));
}

TensorMap tensors_of(const std::string& name, const std::function<bool(const std::string&)>& wanted) {
  const Weights weights = weights_of(name);
  TensorMap kept;
  for (const std::string& tensor : weights.names()) {
    if (wanted(tensor)) kept[tensor] = weights.stored(tensor);
  }
  return kept;
}

bool of_encoder(const std::string& name) {
  return name.starts_with("encoder.") || name.starts_with("quant_conv.") || name.starts_with("quantizer.");
}

ErrorKind kind_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.kind();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorKind::kCancelled;
}

TEST(CosmosHaarTest, TheInverseUndoesTheTransform) {
  for (const CosmosKind kind : {CosmosKind::kImage, CosmosKind::kFactorized}) {
    const CosmosNetworkPlan plan{.kind = kind, .patch = 4, .haar = true};
    const at::Tensor forward = cosmos_haar(plan, false), inverse = cosmos_haar(plan, true);
    ASSERT_EQ(forward.size(0), plan.patch_channels());
    EXPECT_TRUE(at::equal(at::mm(inverse, forward), at::eye(plan.patch_channels(), at::kDouble)));
  }
}

TEST(CosmosPatchesTest, TheFirstFrameStandsAlone) {
  const CosmosNetworkPlan plan{.patch = 2};
  const at::Tensor clip = at::rand({2, 3, 7, 4, 6});
  const at::Tensor patches = cosmos_patches(clip, plan, true);
  EXPECT_EQ(patches.sizes(), at::IntArrayRef({4, 2, 2, 3, 24}));
  EXPECT_TRUE(at::equal(cosmos_unpatch(patches, plan, true), clip));
  EXPECT_TRUE(at::equal(cosmos_patches(clip.slice(2, 1), plan, false), patches.slice(0, 1)));
}

TEST(CosmosAutoencoderTest, KnowsItsArithmetic) {
  const CosmosAutoencoder video = load("dv8x16x16"), image = load("ci16x16");
  EXPECT_EQ(video.spec().spatial_stride, 16);
  EXPECT_EQ(video.spec().temporal_stride, 8);
  EXPECT_EQ(video.spec().vocabulary, 64000);
  EXPECT_EQ(video.spec().latent_channels, 6);
  EXPECT_TRUE(video.spec().causal);
  EXPECT_EQ(image.spec().spatial_stride, 16);
  EXPECT_EQ(image.spec().temporal_stride, 1);
  EXPECT_TRUE(image.spec().image);
  EXPECT_FALSE(image.spec().discrete());
}

TEST(CosmosAutoencoderTest, AsksForEveryTensorOfItsCheckpoint) {
  for (const char* name : {"cv4x8x8_v01", "dv4x8x8", "di8x8", "cosmos_cv8x8x8", "cv_base"}) {
    const Weights weights = weights_of(name);
    const CosmosAutoencoder codec(Config::load(model_folder(name) / "config.json"), weights);
    EXPECT_TRUE(weights.unused().empty()) << name << ": " << weights.unused().front();
  }
}

TEST(CosmosAutoencoderTest, AForkedStreamGoesOnLikeItsOriginal) {
  const CosmosAutoencoder codec = load("cosmos_cv8x8x8");
  const at::Tensor latent = at::randn({1, 5, 5, 3, 2});
  const at::Tensor whole = codec.decode(latent);
  CodecCache cache;
  codec.decode_chunk(latent.slice(2, 0, 2), cache, false);
  CodecCache fork = cache;
  codec.decode_chunk(at::randn({1, 5, 2, 3, 2}), cache, false);  // another future, which must not be seen
  const at::Tensor rest = codec.decode_chunk(latent.slice(2, 2), fork, true);
  EXPECT_TRUE(is_close(rest, whole.slice(2, 9), kSameMath));
}

TEST(CosmosAutoencoderTest, WaitsForWholeGroupsAndRefusesLeftovers) {
  const CosmosAutoencoder codec = load("cv8x8x8");
  CodecCache cache;
  const at::Tensor frames = at::rand({1, 3, 4, 8, 16}) * 2 - 1;
  EXPECT_EQ(codec.encode_chunk(frames, cache, false).latent.size(2), 1);
  EXPECT_EQ(codec.encode_chunk(frames, cache, false).latent.size(2), 0);
  CodecCache fork = cache;
  EXPECT_EQ(codec.encode_chunk(frames, cache, false).latent.size(2), 1);
  EXPECT_EQ(kind_of([&] { codec.encode_chunk(frames, cache, true); }), ErrorKind::kArgument);
  EXPECT_EQ(codec.encode_chunk(frames.slice(2, 0, 1), fork, true).latent.size(2), 1);
}

TEST(CosmosAutoencoderTest, HalfACheckpointIsHalfATokenizer) {
  const Config config = Config::load(model_folder("dv4x8x8") / "config.json");
  const CosmosAutoencoder whole = load("dv4x8x8");
  const CosmosAutoencoder encoder(config, Weights::from(tensors_of("dv4x8x8", of_encoder), "encoder.jit").to(at::kFloat));
  const CosmosAutoencoder decoder(
      config, Weights::from(tensors_of("dv4x8x8", std::not_fn(of_encoder)), "decoder.jit").to(at::kFloat));
  EXPECT_TRUE(encoder.has_encoder() && !encoder.has_decoder());
  EXPECT_TRUE(!decoder.has_encoder() && decoder.has_decoder());
  const at::Tensor sample = at::rand({1, 3, 5, 16, 16}) * 2 - 1;
  const Encoded coded = whole.encode(sample);
  EXPECT_TRUE(at::equal(encoder.encode(sample).indices, coded.indices));
  EXPECT_TRUE(is_close(decoder.decode(decoder.codes_of(coded.indices)), whole.decode(coded.latent), kSameMath));
  EXPECT_EQ(kind_of([&] { encoder.decode(coded.latent); }), ErrorKind::kUnsupported);
  CodecCache cache;
  EXPECT_EQ(kind_of([&] { decoder.encode_chunk(sample, cache, true); }), ErrorKind::kUnsupported);
}

TEST(CosmosAutoencoderTest, ReadsTheStatisticsBesideAnOriginalCheckpoint) {
  const testing::TemporaryFolder folder;
  for (const char* name : {"model.safetensors", "config.json"}) {
    std::filesystem::copy_file(model_folder("cv8x8x8") / name, folder / name);
  }
  const auto normalization = [&] {
    const Weights weights = Weights::open(folder / "model.safetensors").to(at::kFloat);
    return CosmosAutoencoder(Config::load(folder / "config.json"), weights).normalization();
  };
  EXPECT_FALSE(normalization().mean.defined());
  std::filesystem::copy_file(testing::golden_folder() / "cosmos_mean_std/mean_std.pt", folder / "mean_std.pt");
  const LatentNormalization read = normalization();
  EXPECT_TRUE(at::equal(read.mean, at::arange(32, at::kFloat).view({16, 2})));
  EXPECT_TRUE(at::equal(read.std, at::arange(32, at::kFloat).view({16, 2}) / 8 + 1));
  EXPECT_EQ(read.scale, 0.5);
}

TEST(CosmosDescribeTest, ReadsTheConfigurationOffTheTensors) {
  // The 0.1 generation's DV4x8x8 has the same tensors as its other compressions, so its path must tell.
  for (const char* name :
       {"ci8x8", "ci16x16", "di8x8", "cv8x8x8", "cv4x8x8_v01", "dv4x8x8", "dv8x16x16", "cv_base", "cv_legacy"}) {
    const Weights weights = weights_of(name);
    const std::optional<Config> config = describe_cosmos_tokenizer(weights);
    ASSERT_TRUE(config) << name;
    const CosmosAutoencoder reference = load(name), described(*config, weights);
    EXPECT_EQ(described.class_name(), reference.class_name());
    EXPECT_EQ(described.spec().vocabulary, reference.spec().vocabulary);
    const int64_t stride = reference.spec().temporal_stride, side = 2 * reference.spec().spatial_stride;
    const at::Tensor sample = at::rand({1, 3, 1 + stride, side, side}) * 2 - 1;
    const Encoded expected = reference.encode(sample), actual = described.encode(sample);
    EXPECT_TRUE(is_close(actual.latent, expected.latent, kSameMath)) << name;
    EXPECT_TRUE(is_close(described.decode(expected.latent), reference.decode(expected.latent), kSameMath)) << name;
  }
}

TEST(CosmosDescribeTest, TellsTheReleasesOfOneShapeByTheirName) {
  const TensorMap tensors = tensors_of("dv4x8x8_v01", [](const std::string&) { return true; });
  EXPECT_EQ(kind_of([&] { describe_cosmos_tokenizer(Weights::from(tensors, "autoencoder.jit")); }), ErrorKind::kConfig);
  const auto config = describe_cosmos_tokenizer(Weights::from(tensors, "Cosmos-0.1-Tokenizer-DV8x16x16/autoencoder.jit"));
  ASSERT_TRUE(config);
  EXPECT_EQ(config->require<int64_t>("temporal_compression"), 8);
  EXPECT_EQ(config->require<int64_t>("spatial_compression"), 16);
}

TEST(CosmosDescribeTest, LeavesOtherFamiliesAlone) {
  const TensorMap other{{"encoder.conv_in.weight", at::zeros({8, 3, 3, 3})}, {"quant_conv.weight", at::zeros({8, 8, 1, 1})}};
  EXPECT_FALSE(describe_cosmos_tokenizer(Weights::from(other, "vae.pt")));
  EXPECT_FALSE(describe_cosmos_tokenizer(Weights::from({{"x", at::zeros({1})}}, "x.pt")));
}

TEST(CosmosConfigTest, RefusesWhatTheReferenceWouldRefuse) {
  const Weights none = Weights::from({}, "none");
  const auto plan = [&](const std::string& more) {
    const std::string text = R"({"_class_name":"CausalDiscreteVideoTokenizer","channels":8,"channels_mult":[1,2],
      "num_res_blocks":1,"z_channels":4,"embedding_dim":2,"quantizer":"FSQ","levels":[3,3])" +
                             more + "}";
    return kind_of([&] { cosmos_tokenizer_plan(Config::parse(text, "config.json"), none); });
  };
  EXPECT_EQ(plan(R"(,"patch_size":3)"), ErrorKind::kConfig);
  EXPECT_EQ(plan(R"(,"patch_method":"dct")"), ErrorKind::kConfig);
  EXPECT_EQ(plan(R"(,"encoder":"LITE")"), ErrorKind::kConfig);
  EXPECT_EQ(plan(R"(,"embedding_dim":3)"), ErrorKind::kConfig);
  EXPECT_EQ(plan(R"(,"quantizer":"LFQ")"), ErrorKind::kUnsupported);
  EXPECT_EQ(plan(R"(,"encoder":"FACTORIZED","spatial_compression":64)"), ErrorKind::kConfig);
}

// float32 goes Winograd's way from some size on, float64 never.
TEST(CosmosCausalConv3dTest, DoublesAndConvolvesAtAnySize) {
  at::manual_seed(3);
  for (const auto& [side, channels] : {std::pair<int64_t, int64_t>{3, 4}, {9, 16}}) {
    const at::Tensor weight = at::randn({channels, channels, 1, 3, 3}), bias = at::randn({channels});
    const auto made = [&](at::ScalarType dtype) {
      CosmosSlots slots;
      const TensorMap tensors{{"weight", weight.to(dtype)}, {"bias", bias.to(dtype)}};
      return CosmosCausalConv3d(Weights::from(tensors, "memory"), false, channels, channels, {1, 3}, slots);
    };
    const at::Tensor x = at::randn({2, 2, side, side + 2, channels}), exact = x.to(at::kDouble);
    const at::Tensor doubled = exact.repeat_interleave(2, 2).repeat_interleave(2, 3);
    CodecCache cache;
    CosmosPass pass{cache, true, true};
    const at::Tensor expected = made(at::kDouble)(doubled, pass) + doubled;
    EXPECT_TRUE(is_close(made(at::kFloat).over_doubled(x), expected.to(at::kFloat), kSameMath)) << side;
    EXPECT_TRUE(is_close(made(at::kDouble).over_doubled(exact), expected, kSameMath)) << side;
  }
}

}  // namespace
}  // namespace orrery::models
