// Worlds that are told something while they go on: against runs of the references in which the cross-attention follows
// another prompt from some frame on, and the keys of the frames before stay. See tests/golden/interactive_cases.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "models/cosmos/cosmos_recipe.h"
#include "orrery/environment.h"
#include "orrery/media.h"
#include "orrery/text.h"
#include "orrery/world.h"
#include "support/compare.h"
#include "support/errors.h"
#include "support/paths.h"
#include "support/random_weights.h"
#include "support/temporary.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using ::testing::HasSubstr;
using testing::is_close;

fs::path golden(const std::string& name) {
  return fs::absolute(testing::golden_folder()) / name;
}

WorldPrompt embedded(const TensorMap& told) {
  WorldPrompt prompt;
  prompt.conditions.text = told.at("prompt_embeds");
  return prompt;
}
WorldPrompt words(const std::string& text) {
  WorldPrompt prompt;
  prompt.text = text;
  return prompt;
}

// A world whose folder also holds a text encoder with random weights, and words out of another case.
class WordsTest : public ::testing::Test {
 protected:
  void link(const fs::path& model, const std::vector<std::string>& parts) const {
    for (const std::string& part : parts) fs::create_symlink(model / part, folder_ / part);
  }
  void add_encoder(const std::string& class_name, const std::string& json, const std::string& words_of) const {
    const Config config = Config::parse(json, "config.json");
    testing::write_file(folder_ / "text_encoder/config.json", config.dump());
    save_safetensors(folder_ / "text_encoder/model.safetensors", testing::random_weights(class_name, config));
    fs::create_symlink(golden(words_of) / "model/tokenizer", folder_ / "tokenizer");
  }
  // Begins, and goes on until another prompt came before step `then`; the latents of each step.
  std::vector<at::Tensor> follow(const World& world, State& state, int64_t then, const WorldPrompt& other) const {
    std::vector<at::Tensor> latents;
    for (int64_t i = 0; i < steps_; ++i) {
      if (i == then) {
        const std::vector<at::Tensor> before = state.caches;
        world.tell(state, other);
        for (size_t k = 0; k < before.size(); ++k) EXPECT_TRUE(before[k].is_same(state.caches[k])) << "the past stays";
      }
      world.step(state, row(i), noise(i));
      latents.push_back(state.last);
    }
    return latents;
  }
  virtual std::vector<double> row(int64_t) const { return {}; }
  virtual at::Tensor noise(int64_t) const = 0;

  testing::TemporaryFolder folder_;
  int64_t steps_ = 0;
};

class WanWordsTest : public WordsTest {
 protected:
  void SetUp() override {
    steps_ = 3;
    link(case_ / "model", {"transformer", "vae"});
    add_encoder(
        "UMT5EncoderModel",
        R"({"architectures": ["UMT5EncoderModel"], "model_type": "umt5", "d_model": 16, "d_kv": 4, "num_heads": 2, "d_ff": 24,
                    "num_layers": 2, "vocab_size": 305, "relative_attention_num_buckets": 8, "feed_forward_proj": "gated-gelu"})",
        "pipelines/wan21_text2video_prompt");
    testing::write_file(folder_ / "model_index.json",
                        R"({"_class_name": "CausalInferencePipeline", "sample_height": 16, "sample_width": 32,
                            "transformer": ["self_forcing", "CausalWanModel"], "vae": ["diffusers", "AutoencoderKLWan"],
                            "text_encoder": ["transformers", "UMT5EncoderModel"], "tokenizer": ["transformers", "T5Tokenizer"]})");
    world_ = World::from_pretrained(folder_.path().string());
  }
  at::Tensor noise(int64_t i) const override {
    return noise_.narrow(2, 3 * i, 3).transpose(1, 2).flatten(0, 1).contiguous();  // [draws · t,C,h,w]
  }

  const fs::path case_ = golden("pipelines/causal_wan_text2video");
  const TensorMap told_ = load_safetensors(case_ / "told.safetensors");
  const at::Tensor noise_ = load_safetensors(case_ / "noise.safetensors").at("noise");  // [draws,C,t,h,w]
  const WorldPrompt first_ = embedded(load_safetensors(case_ / "embeds.safetensors"));
  std::unique_ptr<World> world_;
};

TEST_F(WanWordsTest, FollowsOtherWordsFromThenOnAsTheOriginal) {
  State plain = world_->begin({}, 0, first_), state = world_->begin({}, 0, first_);
  const at::Tensor whole = at::cat(follow(*world_, plain, -1, {}), 2),
                   told = at::cat(follow(*world_, state, 1, embedded(told_)), 2);
  EXPECT_TRUE(is_close(whole, load_safetensors(case_ / "expected.safetensors").at("latents"), testing::kPipelineParity));
  EXPECT_TRUE(is_close(told, told_.at("latents"), testing::kPipelineParity));
  EXPECT_FALSE(is_close(told, whole, testing::kPipelineParity));
}

TEST_F(WanWordsTest, APromptIsTakenBackWithTheStepsThatFollowedIt) {
  State state = world_->begin({}, 0, first_);
  world_->step(state, {}, noise(0));
  State other = state.fork();
  const std::string before = state.save();
  world_->step(state, {}, noise(1));
  world_->tell(state, embedded(told_));
  world_->step(state, {}, noise(2));
  state.rewind(2);
  EXPECT_EQ(state.save(), before);
  world_->tell(state, embedded(told_));
  EXPECT_FALSE(world_->step(state, {}, noise(1)).equal(world_->step(other, {}, noise(1)))) << "a fork keeps its own words";
  State restored = world_->restore(state.save());
  EXPECT_TRUE(world_->step(state, {}, noise(2)).equal(world_->step(restored, {}, noise(2))));
}

TEST_F(WanWordsTest, ARecordingHoldsWhatItWasTold) {
  State state = world_->begin({}, 4, first_);
  Recording recording;
  recording.start = state.save();
  recording.add({}, world_->step(state, {}));
  world_->tell(state, embedded(told_));
  recording.add_told(state);
  const at::Tensor second = world_->step(state, {});
  recording.add({}, second);
  EXPECT_TRUE(world_->replay(Recording::from_bytes(recording.to_bytes())).at(1).equal(second));
  recording.told.clear();
  EXPECT_THAT(error_of([&] { world_->replay(recording); }), HasSubstr("frame 1: is not what was recorded"));
}

TEST_F(WanWordsTest, APromptGoesThroughTheTextEncoder) {
  const auto parts = PromptParts::of(describe_model(folder_.path().string()), {});
  const auto embed = [](const TextTokenizer& tokenizer, const Component& encoder, const std::string& text, int64_t& cut) {
    return embed_masked(tokenizer, encoder, text, 8, cut);
  };
  const auto embeds = parts.embed({"a red car", "a door opens"}, embed);
  State spoken = world_->begin({}, 0, words(" a red\n car ")),
        given = world_->begin({}, 0, embedded({{"prompt_embeds", embeds[0]}}));
  EXPECT_EQ(spoken.save(), given.save());
  world_->tell(spoken, words("a door opens"));
  EXPECT_NE(spoken.save(), given.save());
  world_->tell(given, embedded({{"prompt_embeds", embeds[1]}}));
  EXPECT_EQ(spoken.save(), given.save());
}

TEST_F(WanWordsTest, WhatMakesNoSenseIsAnErrorAndChangesNothing) {
  State state = world_->begin({}, 0, first_);
  const std::string before = state.save();
  EXPECT_THAT(error_of([&] { world_->step(state, {1.0}); }), HasSubstr("has the wrong width; expected 0 numbers"));
  EXPECT_THAT(error_of([&] {
                world_->tell(state, embedded({{"prompt_embeds", at::zeros({1, 9, 16})}}));
              }),
              HasSubstr("is too long"));
  EXPECT_EQ(state.save(), before);
  EXPECT_THAT(error_of([&] {
                world_->begin({at::zeros({1, 16, 32, 3}, at::kByte), 0}, 0, first_);
              }),
              HasSubstr("with words alone"));
  const auto actions = World::from_pretrained((testing::source_root() / "examples/worlds/golden/tiny_model").string());
  State driven = actions->begin({at::full({1, 33, 47, 3}, 90, at::kByte), 0}, 7);
  EXPECT_FALSE(actions->takes_prompt());
  EXPECT_THAT(error_of([&] { actions->tell(driven, words("rain")); }), HasSubstr("follows actions alone"));
  EXPECT_THAT(error_of([&] { actions->begin({}); }), HasSubstr("has no frame"));
}

class CosmosWordsTest : public WordsTest {
 protected:
  void SetUp() override {
    steps_ = 4;
    link(case_ / "model", {"transformer", "vae", "scheduler"});
    add_encoder("Qwen2_5_VLForConditionalGeneration",
                R"({"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
                    "text_config": {"hidden_size": 20, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2,
                                    "num_key_value_heads": 1, "vocab_size": 428,
                                    "rope_parameters": {"mrope_section": [1, 2, 2], "rope_theta": 10000.0}}})",
                "pipelines/predict25_text2world_prompt");
    testing::write_file(
        folder_ / "model_index.json",
        R"({"_class_name": "ActionVideo2WorldSelfForcing", "sample_height": 16, "sample_width": 32, "num_inference_steps": 4,
                            "window_frames": 5, "transformer": ["cosmos", "CosmosTransformer3DModel"],
                            "vae": ["diffusers", "AutoencoderKLWan"], "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
                            "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
                            "tokenizer": ["transformers", "Qwen2Tokenizer"]})");
    world_ = World::from_pretrained(folder_.path().string());
  }
  std::vector<double> row(int64_t i) const override {
    const at::Tensor row = given_.at("actions")[i].to(at::kDouble).contiguous();
    return {row.data_ptr<double>(), row.data_ptr<double>() + row.numel()};
  }
  at::Tensor noise(int64_t i) const override { return given_.at("noise")[i]; }
  State begin(const WorldPrompt& prompt) const { return world_->begin({given_.at("image"), 0}, 5, prompt); }

  const fs::path case_ = golden("worlds/cosmos_predict25_interactive");
  const TensorMap given_ = load_safetensors(case_ / "rollout.safetensors"),
                  told_ = load_safetensors(case_ / "told.safetensors");
  std::unique_ptr<World> world_;
};

TEST_F(CosmosWordsTest, FollowsOtherWordsFromThenOnAsTheOriginal) {
  State state = begin(embedded(given_)), plain = begin(embedded(given_));
  const at::Tensor told = at::cat(follow(*world_, state, 2, embedded(told_)), 2),
                   whole = at::cat(follow(*world_, plain, -1, {}), 2);
  EXPECT_TRUE(is_close(told, told_.at("latents").slice(2, 1), testing::kPipelineParity));
  EXPECT_TRUE(is_close(whole.slice(2, 0, 2), told_.at("latents").slice(2, 1, 3), testing::kPipelineParity));
  EXPECT_FALSE(is_close(whole, told, testing::kPipelineParity));
}

TEST_F(CosmosWordsTest, AgentsTellTheirWorldsToo) {
  Environment environment(World::from_pretrained(folder_.path().string()),
                          {.first = {given_.at("image"), 0}, .prompt = embedded(given_), .count = 2});
  environment.reset(5);
  State state = begin(embedded(given_));
  const at::Tensor alone = to_video(world_->step(state, row(0)).narrow(0, 3, 1).unsqueeze(2), 0).frames[0];
  EXPECT_TRUE(environment.step(std::vector{row(0), row(0)}).observations[0].equal(alone));
}

TEST_F(CosmosWordsTest, APromptGoesThroughTheTextEncoder) {
  const auto parts = PromptParts::of(describe_model(folder_.path().string()), {});
  const auto embeds = parts.embed({"the arm", "stop"}, models::embed_chat);
  State spoken = begin(words("the arm")), given = begin(embedded({{"prompt_embeds", embeds[0]}}));
  EXPECT_TRUE(world_->step(spoken, row(0)).equal(world_->step(given, row(0))));
  world_->tell(spoken, words("stop"));
  world_->tell(given, embedded({{"prompt_embeds", embeds[1]}}));
  EXPECT_EQ(spoken.save(), given.save());
}

}  // namespace
}  // namespace orrery
