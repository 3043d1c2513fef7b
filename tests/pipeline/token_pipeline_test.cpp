// Whole videos of token worlds against the original networks in a plain loop: see tests/golden/make_token_worlds.py.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <regex>

#include "orrery/error.h"
#include "orrery/pipeline.h"
#include "orrery/text.h"
#include "orrery/video.h"
#include "orrery/weights.h"
#include "support/compare.h"
#include "support/errors.h"
#include "support/far_device.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using testing::is_close;

fs::path worlds() {
  return testing::golden_folder() / "token_worlds";
}
WorldModelPipeline load(const std::string& path, const LoadOptions& options = {}, const TokenWorldOptions& tokens = {}) {
  return WorldModelPipeline::from_pretrained((worlds() / path).string(), options, /*max_memory=*/0, tokens);
}

constexpr const char* kVideo = "Cosmos-Predict1-4B";
constexpr const char* kText = "Cosmos-Predict1-5B-Video2World";
constexpr const char* kTokenizer = "Cosmos-Tokenize1-DV8x16x16-720p";

class TokenPipelineTest : public ::testing::Test {
 protected:
  const TensorMap given_ = load_safetensors(worlds() / "in.safetensors");
  const TensorMap expected_ = load_safetensors(worlds() / "expected.safetensors");
  const at::Tensor nine_ = to_input({given_.at("pictures"), 25});
  const at::Tensor one_ = nine_.narrow(2, 0, 1);

  at::Tensor expected(const std::string& name) const { return expected_.at(name).to(at::kLong); }
};

TEST_F(TokenPipelineTest, GoesOnFromNineFramesAsTheOriginal) {
  const Generated future = load(kVideo).generate({.seen = nine_, .greedy = true});
  EXPECT_TRUE(future.latents.equal(expected("video")));
  EXPECT_EQ(future.new_tokens, 18);
  EXPECT_EQ(future.fps, 25);
  EXPECT_EQ(future.num_frames, 33);
  EXPECT_EQ(future.video.size(2), 33);
  const at::Tensor last = future.video.slice(2, 32).clamp(-1, 1);
  EXPECT_TRUE(is_close(last, expected_.at("last_frame"), testing::kComponentParity));
}

TEST_F(TokenPipelineTest, GoesOnOnAnotherDeviceAsTheOriginal) {
  const LoadOptions far{.device = testing::far_device()};
  const Generated future = load(kVideo, far).generate({.seen = nine_, .greedy = true});
  EXPECT_TRUE(future.latents.equal(expected("video")));
  const at::Tensor last = future.video.slice(2, 32).clamp(-1, 1);
  EXPECT_TRUE(is_close(last, expected_.at("last_frame"), testing::kComponentParity));
  const GenerateOptions told{.prompt_embeds = given_.at("prompt_embeds"), .seen = nine_, .greedy = true};
  EXPECT_TRUE(load(kText, far).generate_latents(told).latents.equal(expected("text")));
  const GenerateOptions drawn{.seen = one_, .seed = 3};
  EXPECT_TRUE(load(kVideo, far).generate_latents(drawn).latents.equal(load(kVideo).generate_latents(drawn).latents));
}

TEST_F(TokenPipelineTest, GoesOnFromAPictureAsTheOriginal) {
  EXPECT_TRUE(load(kVideo).generate_latents({.seen = one_, .greedy = true}).latents.equal(expected("image")));
}

TEST_F(TokenPipelineTest, FollowsATextAsTheOriginal) {
  GenerateOptions options{.prompt_embeds = given_.at("prompt_embeds"), .seen = nine_, .greedy = true};
  const WorldModelPipeline pipeline = load(kText);
  EXPECT_TRUE(pipeline.generate_latents(options).latents.equal(expected("text")));
  const auto refusal = [&] { return error_of([&] { pipeline.generate_latents(options); }); };
  options.prompt_embeds = at::Tensor();
  EXPECT_THAT(refusal(), AllOf(HasSubstr("prompt"), HasSubstr("--prompt-embeds")));
  options.prompt = "a robot";
  EXPECT_THAT(refusal(), HasSubstr("no text encoder"));
  options.guardrails.prompt = [](std::string&) { return Verdict{false, "robots"}; };
  EXPECT_THAT(refusal(), HasSubstr("rejected by the guardrail"));
}

// As the original keeps them: each part a folder, the text encoder with the whole network that it was trained in.
TEST_F(TokenPipelineTest, ATextEncoderBesideTheNetworkReadsThePrompt) {
  const testing::TemporaryFolder folder;
  for (const char* part : {kText, kTokenizer}) fs::create_directory_symlink(worlds() / part, folder / part);
  const fs::path t5 = folder / "google-t5/t5-11b",
                 golden = testing::golden_folder() / "pipelines/predict2_video2world/model";
  fs::create_directories(t5);
  fs::copy(golden / "text_encoder/model.safetensors", t5);
  fs::copy(golden / "tokenizer/spiece.model", t5);
  std::ifstream given(golden / "text_encoder/config.json");
  const std::string config(std::istreambuf_iterator<char>(given), {});
  std::ofstream(t5 / "config.json") << std::regex_replace(config, std::regex("T5EncoderModel"),
                                                          "T5ForConditionalGeneration");

  const auto tokenizer = TextTokenizer::open(t5);
  const auto encoder = load_component((golden / "text_encoder").string(), "text_encoder");
  int64_t cut = 0;
  const at::Tensor text = embed_masked(*tokenizer, *encoder, "a dog", 512, cut);
  const WorldModelPipeline pipeline = WorldModelPipeline::from_pretrained((folder / kText).string());
  const GenerateOptions told{.prompt = "a dog", .seen = one_, .seed = 1},
      embedded{.prompt_embeds = text, .seen = one_, .seed = 1};
  EXPECT_TRUE(pipeline.generate_latents(told).latents.equal(pipeline.generate_latents(embedded).latents));
}

TEST_F(TokenPipelineTest, AFolderWithAnIndexIsTheSameWorld) {
  const testing::TemporaryFolder folder;
  fs::create_directory_symlink(worlds() / kVideo, folder / "transformer");
  fs::create_directory_symlink(worlds() / kTokenizer, folder / "vae");
  std::ofstream(folder / "model_index.json") << R"({"_class_name": "AnyPipeline", "transformer": ["any", "Transformer"],
                                                    "vae": ["any", "CausalDiscreteVideoTokenizer"]})";
  const WorldModelPipeline pipeline = WorldModelPipeline::from_pretrained(folder.path().string());
  EXPECT_EQ(pipeline.class_name(), "AnyPipeline");
  EXPECT_TRUE(pipeline.generate_latents({.seen = one_, .greedy = true}).latents.equal(expected("image")));
}

TEST_F(TokenPipelineTest, OnlyTheLastFramesOfALongVideoCount) {
  const at::Tensor longer = at::cat({nine_.narrow(2, 0, 3).neg(), nine_}, 2);
  const WorldModelPipeline pipeline = load(kVideo);
  const at::Tensor expected = pipeline.generate_latents({.seen = nine_, .seed = 5}).latents;
  EXPECT_TRUE(pipeline.generate_latents({.seen = longer, .seed = 5}).latents.equal(expected));
  EXPECT_EQ(pipeline.input_rules().most_seen_frames, 9);
  // One frame is used where the caller says so, the last.
  const at::Tensor one = pipeline.generate_latents({.seen = nine_.narrow(2, 8, 1), .seed = 5}).latents;
  EXPECT_TRUE(pipeline.generate_latents({.seen = longer, .condition_frames = 1, .seed = 5}).latents.equal(one));
}

TEST_F(TokenPipelineTest, AShorterFutureIsTheBeginningOfTheLongOne) {
  const WorldModelPipeline pipeline = load(kVideo);
  const at::Tensor whole = pipeline.generate_latents({.seen = one_, .seed = 2}).latents;
  const Generated part = pipeline.generate({.seen = one_, .num_frames = 9, .seed = 2});
  EXPECT_TRUE(part.latents.equal(whole.narrow(1, 0, 2)));
  EXPECT_EQ(part.video.size(2), 9);
}

TEST_F(TokenPipelineTest, TheSeedDecidesWhatIsDrawn) {
  const WorldModelPipeline pipeline = load(kVideo);
  const auto drawn = [&](uint64_t seed) { return pipeline.generate_latents({.seen = one_, .seed = seed}).latents; };
  EXPECT_TRUE(drawn(1).equal(drawn(1)));
  EXPECT_FALSE(drawn(1).equal(drawn(2)));
}

TEST_F(TokenPipelineTest, EightBitWeightsImagineToo) {
  EXPECT_EQ(load(kVideo, {.weights = WeightForm::kInt8}).generate({.seen = nine_}).video.size(2), 33);
}

TEST_F(TokenPipelineTest, ProgressCountsTokensAndCancellingStops) {
  GenerateOptions options{.seen = nine_};
  int64_t done = 0, total = 0;
  options.work.on_progress = [&](const Progress& progress) {
    if (progress.stage == "tokens") done = progress.done, total = progress.total;
  };
  const WorldModelPipeline pipeline = load(kVideo);
  pipeline.generate_latents(options);
  EXPECT_EQ(done, 18);
  EXPECT_EQ(total, 18);
  options.work.on_progress = [&](const Progress& progress) {
    if (progress.stage == "tokens" && progress.done == 2) options.work.cancel.cancel();
  };
  EXPECT_THAT(error_of([&] { pipeline.generate_latents(options); }), HasSubstr("cancelled"));
}

TEST_F(TokenPipelineTest, WhatCannotBeUsedIsRefusedWithWhatCan) {
  const WorldModelPipeline pipeline = load(kVideo);
  const auto refusal = [&](const GenerateOptions& options) { return error_of([&] { pipeline.generate_latents(options); }); };
  EXPECT_THAT(refusal({.seen = nine_.slice(4, 0, 32)}),
              AllOf(HasSubstr("48x32"), HasSubstr("got 32x32"), HasSubstr("--resize")));
  EXPECT_THAT(refusal({.seen = nine_, .condition_frames = 17}), AllOf(HasSubstr("one of 1, 9"), HasSubstr("got 17")));
  EXPECT_THAT(refusal({.seen = nine_.narrow(2, 0, 5), .condition_frames = 9}), HasSubstr("are not there"));
  EXPECT_THAT(refusal({.seen = nine_, .num_frames = 41}), HasSubstr("at most 33"));
  EXPECT_THAT(refusal({.seen = nine_, .num_frames = 9}), HasSubstr("nothing to imagine"));
  EXPECT_THAT(refusal({.seen = nine_, .width = 64}), HasSubstr("cannot be chosen"));
  EXPECT_THAT(refusal({.seen = nine_, .temperature = 0.0}), AllOf(HasSubstr("temperature"), HasSubstr("above 0")));
  EXPECT_THAT(refusal({.seen = nine_, .temperature = -0.5}), HasSubstr("temperature"));
  EXPECT_THAT(refusal({.seen = nine_, .steps = 3}), HasSubstr("steps"));
  EXPECT_THAT(refusal({.prompt = "rain", .seen = nine_}), HasSubstr("goes on from frames alone"));
  EXPECT_THAT(refusal({}), HasSubstr("-i or --video"));
}

TEST_F(TokenPipelineTest, ATokenizerOfAnotherVocabularyIsRefused) {
  const std::string other = (testing::golden_folder() / "dv8x8x8_levels_encode" / "model").string();
  EXPECT_THAT(error_of([&] { load(kVideo, {}, {other}); }), AllOf(HasSubstr("a vocabulary of 60"), HasSubstr("got 1050")));
  const std::string continuous = (testing::golden_folder() / "cv8x8x8_encode" / "model").string();
  EXPECT_THAT(error_of([&] { load(kVideo, {}, {continuous}); }), HasSubstr("got continuous latents"));
}

TEST_F(TokenPipelineTest, ANetworkWithoutItsTokenizerSaysWhereItShouldLie) {
  const testing::TemporaryFolder folder;
  fs::create_directory(folder / "inner");
  fs::copy(worlds() / kVideo, folder / "inner" / "network");
  EXPECT_THAT(error_of([&] { WorldModelPipeline::from_pretrained((folder / "inner" / "network").string()); }),
              AllOf(HasSubstr("Cosmos-Tokenize1-DV8x16x16-720p"), HasSubstr("--tokenizer")));
}

TEST_F(TokenPipelineTest, WorldsThatAreDenoisedDrawNoTokens) {
  const std::string path = (testing::golden_folder() / "pipelines/predict2_video2world/model").string();
  EXPECT_THAT(error_of([&] { WorldModelPipeline::from_pretrained(path).generate_latents({.greedy = true}); }),
              HasSubstr("does not draw tokens"));
  EXPECT_THAT(error_of([&] { WorldModelPipeline::from_pretrained(path, {}, 0, {"elsewhere"}); }),
              HasSubstr("worlds of tokens"));
}

// A world that guesses a whole frame at a time: see tests/golden/make_genie.py.
class FramePipelineTest : public ::testing::Test {
 protected:
  const TensorMap future_ = load_safetensors(testing::golden_folder() / "genie_norms" / "future.safetensors");
  const WorldModelPipeline pipeline_ =
      WorldModelPipeline::from_pretrained((testing::golden_folder() / "genie_norms" / "model").string(), {}, 0,
                                          {(testing::golden_folder() / "genie_vq_model_encode" / "model").string()});
};

TEST_F(FramePipelineTest, OneLookAtAFrameAsTheOriginal) {
  const Generated out = pipeline_.generate({.seen = future_.at("video"), .steps = 1, .greedy = true});
  EXPECT_TRUE(out.latents.equal(future_.at("one_look").to(at::kLong)));
  EXPECT_TRUE(is_close(out.video.clamp(-1, 1), future_.at("frames"), testing::kComponentParity));
  EXPECT_EQ(out.new_tokens, 27);
  EXPECT_EQ(out.fps, 2);
}

TEST_F(FramePipelineTest, OnAnotherDeviceAsTheOriginal) {
  const auto far = WorldModelPipeline::from_pretrained(
      (testing::golden_folder() / "genie_norms" / "model").string(), {.device = testing::far_device()}, 0,
      {(testing::golden_folder() / "genie_vq_model_encode" / "model").string()});
  const Generated out = far.generate({.seen = future_.at("video"), .steps = 1, .greedy = true});
  EXPECT_TRUE(out.latents.equal(future_.at("one_look").to(at::kLong)));
  EXPECT_TRUE(is_close(out.video.clamp(-1, 1), future_.at("frames"), testing::kComponentParity));
  GenerateOptions options{.seen = future_.at("video"), .greedy = true};
  options.noise = future_.at("settling_order");
  EXPECT_TRUE(far.generate_latents(options).latents.equal(future_.at("two_looks").to(at::kLong)));
  const GenerateOptions drawn{.seen = future_.at("video"), .seed = 1};
  EXPECT_TRUE(far.generate_latents(drawn).latents.equal(pipeline_.generate_latents(drawn).latents));
}

TEST_F(FramePipelineTest, TwoLooksWithTheReferencesChancesAsTheOriginal) {
  GenerateOptions options{.seen = future_.at("video"), .greedy = true};
  options.noise = future_.at("settling_order");
  EXPECT_TRUE(pipeline_.generate_latents(options).latents.equal(future_.at("two_looks").to(at::kLong)));
  options.noise = options.noise.narrow(0, 0, 2);
  EXPECT_THAT(error_of([&] { pipeline_.generate_latents(options); }), HasSubstr("[3, 1, 9]"));
}

TEST_F(FramePipelineTest, WhatCutsSingleTokensIsRefused) {
  const auto refusal = [&](GenerateOptions options) {
    options.seen = future_.at("video");
    return error_of([&] { pipeline_.generate_latents(options); });
  };
  EXPECT_THAT(refusal({.top_p = 0.5}), HasSubstr("all tokens of a frame together"));
  EXPECT_THAT(refusal({.temperature = 0.0}), AllOf(HasSubstr("temperature"), HasSubstr("above 0")));
}

TEST_F(FramePipelineTest, DrawsAreReproducibleAndFollowTheSeed) {
  const auto drawn = [&](uint64_t seed) {
    return pipeline_.generate_latents({.seen = future_.at("video"), .seed = seed}).latents;
  };
  EXPECT_TRUE(drawn(1).equal(drawn(1)));
  EXPECT_FALSE(drawn(1).equal(drawn(2)));
}

}  // namespace
}  // namespace orrery
