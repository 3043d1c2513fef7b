// Folders in the layouts of the original repositories against the same weights in a diffusers folder, sampled the same way.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "models/cosmos/cosmos_transformer_3d_model.h"
#include "models/wan/wan.h"
#include "models/wan/wan_transformer_3d_model.h"
#include "models/wan/wan_vae_config.h"
#include "orrery/pipeline.h"
#include "support/compare.h"
#include "support/paths.h"
#include "support/pipeline_case.h"
#include "support/temporary.h"
#include "text/t5_encoder_model.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;
using Names = std::map<std::string, std::string>;

class OriginalFolderTest : public ::testing::Test {
 protected:
  // Tensors under other names (diffusers name → original name; what both call the same may be left out).
  void rename(const TensorMap& from, const Names& names, const fs::path& to, const std::string& prefix = "") const {
    TensorMap tensors;
    for (const auto& [name, tensor] : from) tensors[prefix + (names.contains(name) ? names.at(name) : name)] = tensor;
    fs::create_directories(to.parent_path());
    save_safetensors(to, tensors);
  }
  void rename(const fs::path& from, const Names& names, const fs::path& to, const std::string& prefix = "") const {
    rename(load_safetensors(from), names, to, prefix);
  }
  // An original file does not tell the mean and deviation of its latents, which are known for released ones and not for
  // this: its encoder's last layer takes them in.
  void vae(const fs::path& from, const fs::path& to) const {
    const Config about = Config::load(from / "config.json");
    TensorMap tensors = load_safetensors(from / kWeights);
    at::Tensor &weight = tensors.at("quant_conv.weight"), &bias = tensors.at("quant_conv.bias");
    weight = weight.clone(), bias = bias.clone();
    const auto means = about.require<std::vector<double>>("latents_mean"),
               deviations = about.require<std::vector<double>>("latents_std");
    for (size_t i = 0; i < means.size(); ++i) {
      const auto channel = static_cast<int64_t>(i);
      weight[channel] /= deviations[i];
      bias[channel] = (bias[channel] - means[i]) / deviations[i];
    }
    rename(tensors, models::original_wan_vae_names(models::WanVaeConfig::from(about)), to);
  }
  // Latents of both, which depend on the network and the text encoder.
  void expect_equal(const fs::path& diffusers, const fs::path& original, GenerateOptions options,
                    testing::Tolerance tolerance) const {
    options.prompt = "a red cup on a table";
    options.negative_prompt = "blurry";
    options.guidance_scale = 3;
    options.compat = Compat::kDiffusers;  // each alone would run as its own layout says
    options.steps = 2;
    options.height = 32;
    options.width = 48;
    const at::Tensor expected = WorldModelPipeline::from_pretrained(diffusers.string()).generate_latents(options).latents;
    const at::Tensor got = WorldModelPipeline::from_pretrained(original.string()).generate_latents(options).latents;
    EXPECT_TRUE(testing::is_close(got, expected, tolerance));
  }

  // A folder as Wan-Video publishes it, of the networks and the VAE of a diffusers folder.
  void wan(const fs::path& from, const fs::path& to, const std::string& kind, const std::string& vae_file) const {
    const auto network = [&](const std::string& part, const fs::path& place) {
      const Config config = Config::load(from / part / "config.json");
      testing::write_file(place / "config.json", R"({"_class_name": "WanModel", "model_type": ")" + kind +
                                                     R"(", "num_heads": )" +
                                                     std::to_string(config.require<int64_t>("num_attention_heads")) + "}");
      rename(from / part / kWeights, models::original_wan_transformer_names(config.require<int64_t>("num_layers")),
             place / kWeights);
    };
    const bool experts = fs::exists(from / "transformer_2");
    network("transformer", experts ? to / "high_noise_model" : to);
    if (experts) network("transformer_2", to / "low_noise_model");
    vae(from / "vae", to / vae_file);
  }
  // A folder as the Cosmos repositories keep it.
  void cosmos(const fs::path& from, const fs::path& to) const {
    rename(from / "transformer" / kWeights,
           models::cosmos_transformer_layouts(Config::load(from / "transformer/config.json")).front(), to / "model.pt",
           "net.");
    vae(from / "vae", to / "tokenizer/tokenizer.pth");
  }
  // An original folder runs as its repository runs it without being told so: to the latents of the original's loop.
  void expect_the_loop(const std::string& name, const fs::path& original) const {
    const fs::path folder = testing::golden_folder() / "pipelines" / name;
    GenerateOptions options = testing::options_of(folder);
    ASSERT_EQ(options.compat, Compat::kOriginal);
    options.compat = Compat::kAsPublished;
    at::Tensor latents = WorldModelPipeline::from_pretrained(original.string()).generate_latents(options).latents;
    const at::Tensor expected = load_safetensors(folder / "expected.safetensors").at("latents");
    EXPECT_TRUE(testing::is_close(expected.dim() == 4 ? latents.squeeze(2) : latents, expected, testing::kPipelineParity));
  }
  static fs::path model_of(const std::string& name) {
    return testing::model_of(testing::golden_folder() / "pipelines" / name);
  }

  static constexpr const char* kWeights = "diffusion_pytorch_model.safetensors";
  testing::TemporaryFolder folder_;
};

TEST_F(OriginalFolderTest, WanGivesWhatItsDiffusersFolderGives) {
  const fs::path from = testing::golden_folder() / "pipelines/wan21_text2video_prompt/model", to = folder_.path();
  const Config text = Config::load(from / "text_encoder/config.json");
  wan(from, to, "t2v", "Wan2.1_VAE.pth");
  rename(from / "text_encoder/model.safetensors", text::original_umt5_names(text.require<int64_t>("num_layers")),
         to / "models_t5_umt5-xxl-enc-bf16.pth");
  fs::create_directories(to / "google");
  fs::copy(from / "tokenizer", to / "google/umt5-xxl", fs::copy_options::recursive);
  GenerateOptions options;
  options.num_frames = 5;
  options.flow_shift = 5.0;
  expect_equal(from, to, options, testing::kSameMath);
}

TEST_F(OriginalFolderTest, CosmosGivesWhatItsDiffusersFolderGives) {
  const fs::path from = testing::golden_folder() / "pipelines/predict2_text2image_prompt/model",
                 to = folder_ / "checkpoints/nvidia/Cosmos-Predict2-2B-Text2Image";
  cosmos(from, to);
  const fs::path t5 = folder_ / "checkpoints/google-t5/t5-11b";
  fs::create_directories(t5.parent_path());
  fs::copy(from / "text_encoder", t5, fs::copy_options::recursive);
  for (const auto& item : fs::directory_iterator(from / "tokenizer")) fs::copy(item.path(), t5 / item.path().filename());
  // The original's norms of queries and keys have another epsilon.
  expect_equal(from, to, {}, testing::kPipelineParity);
}

TEST_F(OriginalFolderTest, WanRunsAsItsRepository) {
  wan(model_of("original_wan21_text2video"), folder_ / "t2v", "t2v", "Wan2.1_VAE.pth");
  expect_the_loop("original_wan21_text2video", folder_ / "t2v");
  wan(model_of("original_wan22_5b_text2video"), folder_ / "ti2v", "ti2v", "Wan2.2_VAE.pth");
  expect_the_loop("original_wan22_5b_text2video", folder_ / "ti2v");
  expect_the_loop("original_wan22_5b_image2video", folder_ / "ti2v");
}

TEST_F(OriginalFolderTest, WansTwoExpertsRunAsTheirRepository) {
  wan(model_of("original_wan22_text2video_two_experts"), folder_ / "t2v", "t2v", "Wan2.1_VAE.pth");
  expect_the_loop("original_wan22_text2video_two_experts", folder_ / "t2v");
  wan(model_of("original_wan22_image2video_two_experts"), folder_ / "i2v", "i2v", "Wan2.1_VAE.pth");
  expect_the_loop("original_wan22_image2video_two_experts", folder_ / "i2v");
}

TEST_F(OriginalFolderTest, CosmosRunsAsItsRepository) {
  for (const char* name : {"original_predict2_text2image", "original_predict2_video2world", "original_predict25_video2world",
                           "original_predict25_video2world_pretrained"}) {
    SCOPED_TRACE(name);
    cosmos(model_of(name), folder_ / name);
    expect_the_loop(name, folder_ / name);
  }
}

}  // namespace
}  // namespace orrery
