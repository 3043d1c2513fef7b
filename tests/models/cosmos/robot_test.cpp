// Robots in chunks: the action-conditioned checkpoints as pipelines and as worlds, which must agree. What they imagine is
// compared with the references in tests/golden/worlds.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>

#include "models/cosmos/cosmos_actions.h"
#include "orrery/error.h"
#include "orrery/media.h"
#include "orrery/pipeline.h"
#include "orrery/tokenizer.h"
#include "orrery/world.h"
#include "orrery/world_model.h"
#include "support/compare.h"
#include "support/errors.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class RobotTest : public ::testing::TestWithParam<const char*> {
 protected:
  RobotTest() {
    options_.seen = to_input({given_.at("image"), 4});
    options_.actions = given_.at("actions").view({-1, 7});
    options_.steps = 4;
    options_.seed = 5;
    if (given_.contains("prompt_embeds")) options_.prompt_embeds = given_.at("prompt_embeds");
  }
  std::string error_of(const GenerateOptions& options) const {
    return testing::error_of([&] { pipeline_.generate(options); });
  }

  fs::path folder_ = testing::golden_folder() / "worlds" / GetParam();
  TensorMap given_ = load_safetensors(folder_ / "rollout.safetensors");
  WorldModelPipeline pipeline_ = WorldModelPipeline::from_pretrained((folder_ / "model").string());
  GenerateOptions options_;
};

TEST_P(RobotTest, ALongFutureIsTheReferencesLoop) {
  options_.noise = given_.at("noise");
  const at::Tensor video = pipeline_.generate(options_).video;
  ASSERT_EQ(video.size(2), 25);
  EXPECT_TRUE(testing::is_close(video.slice(2, 1).clamp(-1, 1), given_.at("video"), testing::kPipelineParity));
}

TEST_P(RobotTest, TheWorldImaginesWhatThePipelineDoes) {
  const auto world = World::from_pretrained((folder_ / "model").string());
  WorldPrompt prompt;
  prompt.conditions.text = options_.prompt_embeds;
  State state = world->begin({given_.at("image"), 4}, options_.seed, prompt);
  std::vector<at::Tensor> frames;
  for (int64_t chunk = 0; chunk < 2; ++chunk) {
    const at::Tensor rows = given_.at("actions")[chunk].to(at::kDouble).contiguous();
    frames.push_back(world->step(state, {rows.data_ptr<double>(), rows.data_ptr<double>() + rows.numel()}));
  }
  const at::Tensor video = at::cat(frames).transpose(0, 1).unsqueeze(0);
  EXPECT_TRUE(testing::is_close(video, pipeline_.generate(options_).video.slice(2, 1).clamp(-1, 1), testing::kSameMath));
}

TEST_P(RobotTest, OneRowIsHeldForAChunk) {
  const auto world = World::from_pretrained((folder_ / "model").string());
  const std::vector<double> forward = world->encode_action("move forward");
  EXPECT_GT(forward.at(0), 0);
  WorldPrompt prompt;
  prompt.conditions.text = options_.prompt_embeds;
  const State begun = world->begin({given_.at("image"), 4}, 1, prompt);
  std::vector<double> twelve;
  for (int i = 0; i < 12; ++i) twelve.insert(twelve.end(), forward.begin(), forward.end());
  State one = begun.fork(), all = begun.fork(), other = begun.fork();
  const at::Tensor frames = world->step(one, forward);
  EXPECT_EQ(frames.sizes(), at::IntArrayRef({12, 3, world->height(), world->width()}));
  EXPECT_TRUE(frames.equal(world->step(all, twelve)));
  EXPECT_FALSE(frames.equal(world->step(other, world->encode_action("move back"))));
  twelve.resize(5 * 7);
  EXPECT_THROW(world->step(one, twelve), Error);
}

TEST_P(RobotTest, RowsThatDoNotFitAreErrorsThatNameThem) {
  const at::Tensor rows = options_.actions;
  options_.actions = rows.slice(0, 0, 20);
  EXPECT_THAT(error_of(options_), HasSubstr("12 or 24 rows"));
  options_.actions = rows.slice(0, 0, 5);
  EXPECT_THAT(error_of(options_), HasSubstr("expected 12 rows"));
  options_.actions = rows.clone();
  options_.actions[7][3] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(error_of(options_), HasSubstr("row 7[3]"));
  options_.actions = rows.slice(1, 0, 6);
  EXPECT_THAT(error_of(options_), HasSubstr("[T, 7]"));
  options_.actions = at::Tensor();
  EXPECT_THAT(error_of(options_), HasSubstr("give --actions"));
  options_.actions = rows;
  options_.overlap_frames = 5;
  EXPECT_THAT(error_of(options_), HasSubstr("overlap"));
}

TEST_P(RobotTest, AChunkBeginsWithOneFrame) {
  options_.seen = at::Tensor();
  EXPECT_THAT(error_of(options_), HasSubstr("condition frames"));
  options_.seen = to_input({given_.at("image"), 4}).expand({-1, -1, 5, -1, -1});
  EXPECT_EQ(error_of(options_), "no error");  // the last of them
  options_.condition_frames = 5;
  EXPECT_THAT(error_of(options_), HasSubstr("condition frames"));
}

TEST_P(RobotTest, FewerFramesCanBeKept) {
  options_.num_frames = 6;
  const Generated some = pipeline_.generate(options_);
  EXPECT_EQ(some.video.size(2), 6);
  options_.num_frames.reset();
  EXPECT_TRUE(some.video.equal(pipeline_.generate(options_).video.slice(2, 0, 6)));
}

INSTANTIATE_TEST_SUITE_P(Golden, RobotTest, ::testing::Values("cosmos_predict2_bridge", "cosmos_predict25_bridge"),
                         [](const auto& info) { return std::string(info.param); });

TEST(RobotModelTest, ActsOnTokens) {
  const fs::path model = testing::golden_folder() / "worlds/cosmos_predict2_bridge/model";
  const auto world = CosmosWorldModel::from_pretrained(model.string());
  const auto tokenizer = CosmosTokenizer::from_pretrained(model.string());
  const Latents tokens = tokenizer.encode({at::full({1, 16, 16, 3}, 90, at::kByte), 4});
  const Latents future = world.generate(tokens, {.action = world.encode_action("move forward"), .num_frames = 16});
  EXPECT_EQ(future.video.size(2), 5);  // the seen frame and sixteen behind it
}

TEST(RobotModelTest, OtherModelsTakeNoActions) {
  const fs::path model = testing::golden_folder() / "pipelines/predict2_video2world/model";
  GenerateOptions options;
  options.actions = at::zeros({12, 7});
  options.prompt_embeds = options.negative_prompt_embeds = at::zeros({1, 7, 16});
  options.height = options.width = 32;
  options.steps = 1;
  options.num_frames = 5;
  EXPECT_THAT(testing::error_of([&] { WorldModelPipeline::from_pretrained(model.string()).generate(options); }),
              HasSubstr("actions"));
}

// As the checkpoints lie on the hub.
TEST(RobotModelTest, AReleasesFolderIsKnownByItsEmbedders) {
  const fs::path golden = fs::absolute(testing::golden_folder());
  const auto class_of = [&](const char* network, const char* name, const char* tokenizer) {
    const testing::TemporaryFolder root;
    const fs::path folder = root / "robot/action-cond";
    fs::create_directories(folder);
    fs::create_directories((folder / tokenizer).parent_path());
    fs::create_symlink(golden / network / "model.safetensors", folder / name);
    fs::create_symlink(golden / "wan21_vae_original_encode/model/model.safetensors", folder / tokenizer);
    const ModelDescription model = describe_model(folder.string());
    EXPECT_EQ(models::cosmos_action_space(model).rows_per_step, 12);
    return model.class_name;
  };
  EXPECT_EQ(class_of("transformer_cosmos_action", "model-480p-4fps.pt", "tokenizer/tokenizer.pth"),
            "Video2WorldActionConditionedPipeline");
  EXPECT_EQ(class_of("transformer_cosmos_action_chunk", "38c6c645_ema_bf16.pt", "../../tokenizer.pth"),
            "ActionVideo2WorldInference");
}

TEST(CosmosActionsTest, BridgeRowsAreScaledAndOthersLeft) {
  const models::CosmosActions bridge(84, 0), other(116, 4);
  EXPECT_EQ(bridge.space().rows_per_step, 12);
  EXPECT_TRUE(bridge.normalised(at::ones({2, 7}))[0][0].equal(at::tensor({20.f, 20.f, 20.f, 20.f, 20.f, 20.f, 1.f})));
  EXPECT_EQ(other.space().width, 29);
  EXPECT_TRUE(other.normalised(at::ones({4, 29})).eq(1).all().item<bool>());
  EXPECT_THROW(models::CosmosActions(80, 0), Error);
}

}  // namespace
}  // namespace orrery
