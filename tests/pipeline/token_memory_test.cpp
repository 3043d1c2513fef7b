// What `inspect` predicts for worlds of tokens, against the memory that mid-size networks with random weights really take.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "orrery/config.h"
#include "orrery/load.h"
#include "orrery/pipeline.h"
#include "orrery/world.h"
#include "support/paths.h"
#include "support/peak_memory.h"
#include "support/random_weights.h"
#include "support/temporary.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

constexpr double kFactor = 1.5;  // how far a prediction may be off

class TokenMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::can_measure_peak_memory()) GTEST_SKIP() << "the peak of this process cannot be measured here";
    at::manual_seed(3);
  }
  // A part of a model's folder, with the tensors that `given` holds and random ones.
  void add(const std::string& name, const std::string& class_name, const std::string& json,
           const TensorMap& given = {}) const {
    const Config config = Config::parse(json, "config.json").with("_class_name", class_name);
    testing::write_file(folder_ / name / "config.json", config.dump());
    save_safetensors(folder_ / name / "model.safetensors", testing::random_weights(class_name, config, given));
  }
  void expect_near(int64_t predicted, int64_t measured) const {
    EXPECT_LT(static_cast<double>(predicted), kFactor * static_cast<double>(measured)) << "of " << measured;
    EXPECT_LT(static_cast<double>(measured), kFactor * static_cast<double>(predicted)) << "of " << predicted;
  }

  testing::TemporaryFolder folder_;
};

class AutoregressiveMemoryTest : public TokenMemoryTest {
 protected:
  // A network of which keys and values take as much as its weights.
  void SetUp() override {
    TokenMemoryTest::SetUp();
    if (IsSkipped()) return;
    add("world/network", "Transformer",
        R"({"dim": 256, "n_layers": 6, "n_heads": 4, "n_kv_heads": 4, "head_dim": 64, "ffn_hidden_size": 1024, "vocab_size": 60,
            "use_qk_normalization": true, "rope_dim": "3D", "video_latent_shape": [3, 24, 24], "max_seq_len": 1728})");
    fs::create_directory_symlink(fs::absolute(testing::golden_folder()) / "token_worlds" / "Cosmos-Tokenize1-DV8x16x16-720p",
                                 folder_ / "world/Cosmos-Tokenize1-DV8x16x16-720p");
  }
  std::string path() const { return (folder_ / "world/network").string(); }
  int64_t peak_of(WeightForm form, bool decoded) const {
    const at::Tensor seen = at::zeros({1, 3, 9, 384, 384});
    return testing::peak_memory_of([&] {
      const auto pipeline = WorldModelPipeline::from_pretrained(path(), {.weights = form});
      const GenerateOptions options{.seen = seen, .greedy = true};
      if (decoded)
        pipeline.generate(options, [](const at::Tensor&) {});
      else
        pipeline.generate_latents(options);
    });
  }
};

TEST_F(AutoregressiveMemoryTest, WeightsAsStoredKeysAndValuesAreNear) {
  peak_of(WeightForm::kStored, true);  // what is loaded and kept for good is not counted
  const MemoryNeed need = predict_memory(describe_model(path()));
  EXPECT_EQ(need.frames, 17);
  EXPECT_EQ(need.height, 384);
  expect_near(need.denoise, peak_of(WeightForm::kStored, false));
  expect_near(need.peak(), peak_of(WeightForm::kStored, true));
}

TEST_F(AutoregressiveMemoryTest, WeightsInAnotherFormAreCountedSo) {
  const ModelDescription model = describe_model(path());
  const int64_t stored = predict_memory(model).denoise,
                whole = predict_memory(model, {.weights = WeightForm::kInt8}).denoise,
                wide = predict_memory(model, {.weights = WeightForm::kFloat32}).denoise;
  const int64_t matrices = 6 * (4 * 256 * 256 + 3 * 256 * 1024) + 60 * 256;
  const int64_t rows = 6 * (4 * 256 + 2 * 1024 + 256) + 60;
  EXPECT_EQ(wide - stored, 2 * matrices);
  // wv and wo stay bfloat16.
  EXPECT_EQ(stored - whole, matrices - 6 * 2 * 256 * 256 - 4 * (rows - 6 * 2 * 256));
  expect_near(wide, peak_of(WeightForm::kFloat32, false));
  expect_near(whole, peak_of(WeightForm::kInt8, false));
}

TEST_F(TokenMemoryTest, AFutureGuessedByTheFrameIsNear) {
  add("dynamics", "STMaskGIT",
      R"({"num_layers": 6, "num_heads": 4, "d_model": 256, "T": 10, "S": 256, "image_vocab_size": 1024, "num_factored_vocabs": 2})");
  add("vae", "VQModel", R"({"base_channels": 32, "num_res_blocks": 1, "z_channels": 10, "ch_mult": [1, 1]})");
  testing::write_file(
      folder_ / "model_index.json",
      R"({"_class_name": "GeniePipeline", "dynamics": ["genie", "STMaskGIT"], "vae": ["genie", "VQModel"]})");
  const std::string path = folder_.path().string();
  const at::Tensor seen = at::rand({1, 3, 2, 32, 32});
  const auto imagine = [&] {
    WorldModelPipeline::from_pretrained(path).generate({.seen = seen, .steps = 1, .greedy = true}, [](const at::Tensor&) {});
  };
  imagine();
  expect_near(predict_memory(describe_model(path)).peak(), testing::peak_memory_of(imagine));
}

TEST_F(TokenMemoryTest, AWorldOfLatentActionsIsNear) {
  const std::string sizes =
      R"("frame_size": 64, "patch_size": 4, "embed_dim": 256, "num_heads": 4, "num_blocks": 4, "latent_dim": 5, "num_bins": 4)";
  const auto inner = [](const std::string& transformer) {
    TensorMap given;
    for (int i = 0; i < 4; ++i)
      given[transformer + ".blocks." + std::to_string(i) + ".ffn.w_v.weight"] = at::zeros({1024, 256}, at::kBFloat16);
    return given;
  };
  TensorMap tokenizer = inner("encoder.transformer");
  tokenizer.merge(inner("decoder.transformer"));
  TensorMap actions = inner("encoder.transformer");
  actions["encoder.action_head.3.weight"] = at::zeros({2, 8}, at::kBFloat16);
  add("vae", "VideoTokenizer", "{" + sizes + "}", tokenizer);
  add("latent_actions", "LatentActionModel", "{" + sizes + R"(, "n_actions": 4})", actions);
  add("dynamics", "DynamicsModel", "{" + sizes + R"(, "conditioning_dim": 2})", inner("transformer"));
  testing::write_file(folder_ / "model_index.json",
                      R"({"_class_name": "TinyWorldsPipeline", "context_window": 7, "num_steps": 2, "n_actions": 4,
                          "vae": ["tinyworlds", "VideoTokenizer"], "latent_actions": ["tinyworlds", "LatentActionModel"],
                          "dynamics": ["tinyworlds", "DynamicsModel"]})");
  const std::string path = folder_.path().string();
  const auto walk = [&] {
    const auto world = World::from_pretrained(path);
    State state = world->begin({at::full({1, 64, 64, 3}, 90, at::kByte), 0});
    state.history_limit = 0;
    for (int i = 0; i < 2; ++i) world->step(state, {1});
  };
  walk();
  const MemoryNeed need = predict_memory(describe_model(path));
  EXPECT_EQ(need.frames, 8);
  EXPECT_EQ(need.width, 64);
  expect_near(need.peak(), testing::peak_memory_of(walk));
}

}  // namespace
}  // namespace orrery
