// The released networks in their original layouts: what their tensors' shapes say, against the configs that diffusers'
// conversion scripts hold (scripts/convert_cosmos_to_diffusers.py, convert_wan_to_diffusers.py). The tensors cost no memory.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "models/cosmos/cosmos_transformer_3d_model.h"
#include "models/registry.h"
#include "models/wan/wan_transformer_3d_model.h"
#include "orrery/error.h"
#include "orrery/load.h"
#include "support/compare.h"
#include "support/errors.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery::models {
namespace {

using ::testing::HasSubstr;

at::Tensor shaped(at::IntArrayRef shape) {
  return at::zeros({1}, at::kBFloat16).expand(shape);
}

// The tensors by which a network is known, and the last block.
TensorMap cosmos(bool predict1, int64_t width, int64_t layers, int64_t in_channels, int64_t head_dim, int64_t projected) {
  const std::string first = predict1 ? "blocks.block0.blocks." : "blocks.0.";
  const auto attention = [&](int cross, const char* part) {
    if (predict1) return first + std::to_string(cross) + ".block.attn.to_" + part;
    return first + (cross ? "cross_attn." : "self_attn.") + part;
  };
  TensorMap tensors = {
      {"x_embedder.proj.1.weight", shaped({width, (in_channels + 1) * 4})},
      {"final_layer.linear.weight", shaped({64, width})},
      {attention(0, predict1 ? "q.1.weight" : "q_norm.weight"), shaped({head_dim})},
      {attention(1, predict1 ? "k.0.weight" : "k_proj.weight"), shaped({width, 1024})},
      {first + (predict1 ? "2.block.layer1.weight" : "mlp.layer1.weight"), shaped({4 * width, width})},
      {first + (predict1 ? "0.adaLN_modulation.1.weight" : "adaln_modulation_self_attn.1.weight"), shaped({256, width})}};
  for (int64_t i = 0; i < layers; ++i)
    tensors[(predict1 ? "blocks.block" + std::to_string(i) + ".blocks.0.block.attn.to_q.0.weight"
                      : "blocks." + std::to_string(i) + ".self_attn.q_proj.weight")] = shaped({width, width});
  if (predict1)
    for (const auto& [axis, size] : {std::pair{"t", 128}, {"h", 120}, {"w", 120}})
      tensors[std::string("extra_pos_embedder.pos_emb_") + axis] = shaped({size, width});
  if (projected > 0) tensors["crossattn_proj.0.weight"] = shaped({1024, projected});
  return tensors;
}

struct CosmosRelease {
  const char* name;
  bool predict1;
  int64_t width, layers, in_channels, heads, projected;
  std::vector<double> rope_scale;
};

TEST(OriginalLayoutsTest, EveryCosmosReleaseIsReadAsItsConfigSays) {
  const std::vector<CosmosRelease> kReleases = {
      {"Cosmos-1.0-Diffusion-7B-Text2World", true, 4096, 28, 16, 32, 0, {2, 1, 1}},
      {"Cosmos-1.0-Diffusion-7B-Video2World", true, 4096, 28, 17, 32, 0, {2, 1, 1}},
      {"Cosmos-1.0-Diffusion-14B-Text2World", true, 5120, 36, 16, 40, 0, {2, 2, 2}},
      {"Cosmos-1.0-Diffusion-14B-Video2World", true, 5120, 36, 17, 40, 0, {2, 2, 2}},
      {"Cosmos-Predict2-0.6B-Text2Image", false, 1280, 20, 16, 20, 0, {1, 4, 4}},
      {"Cosmos-2.0-Diffusion-2B-Text2Image", false, 2048, 28, 16, 16, 0, {1, 4, 4}},
      {"Cosmos-2.0-Diffusion-14B-Text2Image", false, 5120, 36, 16, 40, 0, {1, 4, 4}},
      {"Cosmos-2.0-Diffusion-2B-Video2World", false, 2048, 28, 17, 16, 0, {1, 3, 3}},
      {"Cosmos-2.0-Diffusion-14B-Video2World", false, 5120, 36, 17, 40, 0, {20.0 / 24, 2, 2}},
      {"Cosmos-2.5-Predict-Base-2B", false, 2048, 28, 17, 16, 100352, {1, 3, 3}},
      {"Cosmos-2.5-Predict-Base-14B", false, 5120, 36, 17, 40, 100352, {1, 3, 3}}};
  for (const CosmosRelease& release : kReleases) {
    SCOPED_TRACE(release.name);
    const auto config = describe_cosmos_transformer(
        Weights::from(cosmos(release.predict1, release.width, release.layers, release.in_channels,
                             release.width / release.heads, release.projected),
                      release.name));
    ASSERT_TRUE(config);
    EXPECT_EQ(config->get<int64_t>("in_channels", 0), release.in_channels);
    EXPECT_EQ(config->get<int64_t>("out_channels", 0), 16);
    EXPECT_EQ(config->get<int64_t>("num_attention_heads", 0), release.heads);
    EXPECT_EQ(config->get<int64_t>("num_layers", 0), release.layers);
    EXPECT_EQ(config->get<double>("mlp_ratio", 0), 4.0);
    EXPECT_EQ(config->get<int64_t>("text_embed_dim", 0), 1024);
    EXPECT_EQ(config->get<int64_t>("adaln_lora_dim", 0), 256);
    EXPECT_EQ(config->get<std::vector<double>>("rope_scale", {}), release.rope_scale);
    EXPECT_EQ(config->get<bool>("use_crossattn_projection", false), release.projected > 0);
    if (release.predict1) {
      EXPECT_EQ(config->get<std::vector<int64_t>>("max_size", {}), (std::vector<int64_t>{128, 240, 240}));
    }
  }
}

TensorMap wan(int64_t width, int64_t ffn, int64_t layers, int64_t in_channels, int64_t out_channels, int64_t pictures) {
  TensorMap tensors = {{"patch_embedding.weight", shaped({width, in_channels, 1, 2, 2})},
                       {"head.head.weight", shaped({out_channels * 4, width})},
                       {"time_projection.1.weight", shaped({6 * width, width})},
                       {"time_embedding.0.weight", shaped({width, 256})},
                       {"text_embedding.0.weight", shaped({width, 4096})},
                       {"blocks.0.ffn.0.weight", shaped({ffn, width})},
                       {"blocks.0.norm3.weight", shaped({width})}};
  for (int64_t i = 0; i < layers; ++i)
    tensors["blocks." + std::to_string(i) + ".self_attn.q.weight"] = shaped({width, width});
  if (pictures > 0) {
    tensors["img_emb.proj.0.weight"] = shaped({1280});
    tensors["blocks.0.cross_attn.k_img.weight"] = shaped({width, width});
  }
  if (pictures > 1) tensors["img_emb.emb_pos"] = shaped({1, 514, 1280});
  return tensors;
}

struct WanRelease {
  const char* name;
  int64_t width, ffn, layers, in_channels, out_channels, pictures;
};

TEST(OriginalLayoutsTest, EveryWanReleaseIsReadAsItsConfigSays) {
  const std::vector<WanRelease> kReleases = {
      {"Wan-T2V-1.3B", 1536, 8960, 30, 16, 16, 0},      {"Wan-T2V-14B", 5120, 13824, 40, 16, 16, 0},
      {"Wan-I2V-14B-480p", 5120, 13824, 40, 36, 16, 1}, {"Wan-FLF2V-14B-720P", 5120, 13824, 40, 36, 16, 2},
      {"Wan2.2-TI2V-5B", 3072, 14336, 30, 48, 48, 0},   {"Wan2.2-I2V-14B-720p", 5120, 13824, 40, 36, 16, 0}};
  for (const WanRelease& release : kReleases) {
    SCOPED_TRACE(release.name);
    const auto config = describe_wan_transformer(Weights::from(
        wan(release.width, release.ffn, release.layers, release.in_channels, release.out_channels, release.pictures),
        release.name));
    ASSERT_TRUE(config);
    EXPECT_EQ(config->get<int64_t>("num_attention_heads", 0), release.width / 128);
    EXPECT_EQ(config->get<int64_t>("ffn_dim", 0), release.ffn);
    EXPECT_EQ(config->get<int64_t>("num_layers", 0), release.layers);
    EXPECT_EQ(config->get<int64_t>("in_channels", 0), release.in_channels);
    EXPECT_EQ(config->get<int64_t>("out_channels", 0), release.out_channels);
    EXPECT_EQ(config->get<int64_t>("freq_dim", 0), 256);
    EXPECT_EQ(config->get<int64_t>("text_dim", 0), 4096);
    EXPECT_TRUE(config->get<bool>("cross_attn_norm", false));
    EXPECT_EQ(config->get<int64_t>("image_dim", 0), release.pictures > 0 ? 1280 : 0);
    EXPECT_EQ(config->get<int64_t>("added_kv_proj_dim", 0), release.pictures > 0 ? release.width : 0);
    EXPECT_EQ(config->get<int64_t>("pos_embed_seq_len", 0), release.pictures > 1 ? 514 : 0);
  }
}

TEST(OriginalLayoutsTest, NetworksThatGrewOutOfThemAreToldApart) {
  TensorMap vace = wan(1536, 8960, 2, 16, 16, 0);
  vace["vace_blocks.0.before_proj.weight"] = shaped({1536, 1536});
  EXPECT_FALSE(describe_wan_transformer(Weights::from(vace, "vace")));
  TensorMap action = cosmos(false, 2048, 2, 17, 128, 0);
  action["action_embedder_B_D.fc1.weight"] = shaped({8192, 84});
  const auto config = describe_cosmos_transformer(Weights::from(action, "action"));
  ASSERT_TRUE(config);
  EXPECT_EQ(config->get<int64_t>("action_features", 0), 84);
}

TEST(OriginalLayoutsTest, AnOddWidthIsSaidToLeaveTheHeadsOpen) {
  EXPECT_THAT(testing::error_of([&] { describe_wan_transformer(Weights::from(wan(1000, 8960, 1, 16, 16, 0), "file")); }),
              HasSubstr("number of heads"));
}

// As ComfyUI publishes them: each large weight divided by a number of its own, which lies beside it.
TEST(OriginalLayoutsTest, Float8WithScalesIsTheNetworkThatWasMeant) {
  const auto golden = testing::golden_folder() / "original_wan_file";
  const testing::TemporaryFolder folder;
  TensorMap stored = load_safetensors(golden / "model/wan_t2v_fp8_e4m3fn.safetensors"), meant;
  stored["scaled_fp8"] = at::ones({2}).to(at::kFloat8_e4m3fn);
  int64_t scaled = 0;
  for (const auto& [name, tensor] : TensorMap(stored)) {
    meant[name] = tensor.to(at::kFloat);
    if (!name.starts_with("blocks.") || !name.ends_with(".weight") || tensor.dim() != 2) continue;
    const double scale = 0.5 + 0.25 * static_cast<double>(++scaled % 5);
    stored[name.substr(0, name.size() - 6) + "scale_weight"] = at::full({}, scale, at::kFloat);
    meant[name].mul_(scale);
  }
  ASSERT_GE(scaled, 10);
  meant.erase("scaled_fp8");
  save_safetensors(folder / "fp8_scaled.safetensors", stored);
  save_safetensors(folder / "meant.safetensors", meant);
  const auto sample = [&](const char* file, WeightForm form) {
    return load_component((folder / file).string(), "transformer", {.weights = form})
        ->call("forward", load_safetensors(golden / "in.safetensors"), {})
        .at("sample");
  };
  const at::Tensor expected = sample("meant.safetensors", WeightForm::kStored);
  for (const WeightForm form : {WeightForm::kStored, WeightForm::kFloat8, WeightForm::kFloat32})
    EXPECT_TRUE(testing::is_close(sample("fp8_scaled.safetensors", form), expected, testing::kSameMath));
  const auto report = inspect_component(describe_model((folder / "fp8_scaled.safetensors").string()).components.front());
  EXPECT_THAT(report.unexpected, ::testing::IsEmpty());
  EXPECT_THAT(report.misshapen, ::testing::IsEmpty());
}

// Hub pages hold a config.json of their publisher's own beside the original file.
TEST(OriginalLayoutsTest, AnArchitectureOfThePublishersOwnDoesNotHideTheTensors) {
  const testing::TemporaryFolder folder;
  std::filesystem::copy(testing::golden_folder() / "wan21_vae_original_encode/model/model.safetensors", folder.path());
  const auto class_beside = [&](const char* config) {
    std::ofstream(folder / "config.json") << config;
    return describe_model(folder.path().string()).components.front().class_name;
  };
  EXPECT_EQ(class_beside(R"({"architectures": ["PublishersNetwork"], "model_type": "video"})"), "AutoencoderKLWan");
  EXPECT_EQ(class_beside(R"({"_class_name": "AnotherNetwork"})"), "AnotherNetwork") << "whoever names a class means it";
  std::filesystem::remove(folder / "model.safetensors");
  EXPECT_EQ(class_beside(R"({"architectures": ["PublishersNetwork"]})"), "PublishersNetwork");
}

// A folder as Wan-Video publishes it, of the tiny parts of other cases.
class WanFolderTest : public ::testing::Test {
 protected:
  void put(const std::string& golden, const std::string& name) {
    const auto to = folder_ / name;
    std::filesystem::create_directories(to.parent_path());
    std::filesystem::copy(testing::golden_folder() / golden, to, std::filesystem::copy_options::recursive);
  }
  std::vector<std::string> parts() const {
    std::vector<std::string> names;
    for (const auto& part : describe_model(folder_.path().string()).components)
      names.push_back(part.name + ": " + part.class_name);
    return names;
  }
  testing::TemporaryFolder folder_;
};

TEST_F(WanFolderTest, IsAPipelineOfItsFiles) {
  for (const auto& item : std::filesystem::directory_iterator(testing::golden_folder() / "original_wan_text2video/model"))
    std::filesystem::copy(item.path(), folder_.path());
  put("wan21_vae_original_encode/model/model.safetensors", "Wan2.1_VAE.pth");
  put("original_wan_text_encoder/model/models_t5_umt5-xxl-enc-bf16.pth", "models_t5_umt5-xxl-enc-bf16.pth");
  put("tokenizer_t5_batch/model", "google/umt5-xxl");
  const ModelDescription model = describe_model(folder_.path().string());
  EXPECT_EQ(model.kind, "pipeline");
  EXPECT_EQ(model.class_name, "WanPipeline");
  EXPECT_THAT(parts(),
              ::testing::ElementsAre("transformer: WanModel", "vae: AutoencoderKLWan", "text_encoder: UMT5EncoderModel",
                                     "tokenizer: T5TokenizerFast", "scheduler: UniPCMultistepScheduler"));
  for (const auto& part : model.components) {
    const ComponentReport report = inspect_component(part);
    EXPECT_THAT(report.missing, ::testing::IsEmpty()) << part.name;
    EXPECT_THAT(report.unexpected, ::testing::IsEmpty()) << part.name;
  }
}

TEST_F(WanFolderTest, TwoExpertsChangeAtTheirBoundary) {
  put("original_wan_text2video/model", "high_noise_model");
  put("original_wan_text2video/model", "low_noise_model");
  put("wan21_vae_original_encode/model/model.safetensors", "Wan2.1_VAE.pth");
  const ModelDescription model = describe_model(folder_.path().string());
  EXPECT_EQ(model.components[1].name, "transformer_2");
  EXPECT_EQ(model.index.get<double>("boundary_ratio", 0), 0.875);
}

}  // namespace
}  // namespace orrery::models
