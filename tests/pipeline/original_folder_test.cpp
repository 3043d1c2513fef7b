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
#include "support/temporary.h"
#include "text/t5_encoder_model.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;
using Names = std::map<std::string, std::string>;

class OriginalFolderTest : public ::testing::Test {
 protected:
  // The weights of a diffusers part under other names (diffusers name → original name).
  void rename(const fs::path& from, const Names& names, const fs::path& to, const std::string& prefix = "") const {
    TensorMap tensors;
    for (const auto& [name, tensor] : load_safetensors(from)) {
      ASSERT_TRUE(names.contains(name)) << name;
      tensors[prefix + names.at(name)] = tensor;
    }
    fs::create_directories(to.parent_path());
    save_safetensors(to, tensors);
  }
  void vae(const fs::path& from, const fs::path& to) const {
    const auto config = models::WanVaeConfig::from(Config::load(from / "config.json"));
    rename(from / kWeights, models::original_wan_vae_names(config), to);
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

  static constexpr const char* kWeights = "diffusion_pytorch_model.safetensors";
  testing::TemporaryFolder folder_;
};

TEST_F(OriginalFolderTest, WanGivesWhatItsDiffusersFolderGives) {
  const fs::path from = testing::golden_folder() / "pipelines/wan21_text2video_prompt/model", to = folder_.path();
  const Config network = Config::load(from / "transformer/config.json"),
               text = Config::load(from / "text_encoder/config.json");
  testing::write_file(to / "config.json", R"({"_class_name": "WanModel", "model_type": "t2v", "num_heads": )" +
                                              std::to_string(network.require<int64_t>("num_attention_heads")) + "}");
  rename(from / "transformer" / kWeights, models::original_wan_transformer_names(network.require<int64_t>("num_layers")),
         to / kWeights);
  rename(from / "text_encoder/model.safetensors", text::original_umt5_names(text.require<int64_t>("num_layers")),
         to / "models_t5_umt5-xxl-enc-bf16.pth");
  vae(from / "vae", to / "Wan2.1_VAE.pth");
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
  const Config network = Config::load(from / "transformer/config.json");
  rename(from / "transformer" / kWeights, models::cosmos_transformer_layouts(network).front(), to / "model.pt", "net.");
  vae(from / "vae", to / "tokenizer/tokenizer.pth");
  const fs::path t5 = folder_ / "checkpoints/google-t5/t5-11b";
  fs::create_directories(t5.parent_path());
  fs::copy(from / "text_encoder", t5, fs::copy_options::recursive);
  for (const auto& item : fs::directory_iterator(from / "tokenizer")) fs::copy(item.path(), t5 / item.path().filename());
  // The original's norms of queries and keys have another epsilon.
  expect_equal(from, to, {}, testing::kPipelineParity);
}

}  // namespace
}  // namespace orrery
