// A world of tokens and latent actions: see tests/golden/make_tinyworlds.py.
#include "models/tinyworlds/tiny_world.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <filesystem>

#include "orrery/error.h"
#include "orrery/load.h"
#include "support/compare.h"
#include "support/far_device.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery::models {
namespace {

using ::orrery::testing::golden_folder;

class TinyWorldTest : public ::testing::Test {
 protected:
  void expect_the_original(const World& world) const {
    State state = world.begin(observed_);
    const std::vector<double> actions = {2, 0, 3, 1, 3};
    for (size_t i = 0; i < actions.size(); ++i) {
      const at::Tensor frame = world.step(state, {actions[i]});
      EXPECT_TRUE(testing::is_close(frame[0], data_.at("future")[static_cast<int64_t>(i)], testing::kComponentParity)) << i;
    }
  }

  std::string folder_ = (golden_folder() / "tinyworlds").string();
  std::unique_ptr<World> world_ = World::from_pretrained(folder_),
                         far_ = World::from_pretrained(folder_, {.device = testing::far_device()});
  TensorMap data_ = load_safetensors(golden_folder() / "tinyworlds" / "rollout.safetensors");
  Video observed_{data_.at("observed"), 2};
};

TEST_F(TinyWorldTest, FollowsLatentActionsAsTheOriginal) {
  expect_the_original(*world_);
}

TEST_F(TinyWorldTest, FollowsThemOnAnotherDeviceAndGoesOnHere) {
  expect_the_original(*far_);
  State there = far_->begin(observed_);
  far_->step(there, {1});
  State here = world_->restore(there.save());
  EXPECT_TRUE(testing::is_close(world_->step(here, {2}), far_->step(there, {2}), testing::kSameMath));
}

TEST_F(TinyWorldTest, AForkIsAWorldOfItsOwn) {
  State state = world_->begin(observed_);
  world_->step(state, {1});
  State other = state.fork();
  const at::Tensor mine = world_->step(state, {2});
  EXPECT_FALSE(world_->step(other, {0}).equal(mine));
  State replay = world_->begin(observed_);
  world_->step(replay, {1});
  EXPECT_TRUE(world_->step(replay, {2}).equal(mine));
}

TEST_F(TinyWorldTest, ASavedStateGoesOn) {
  State state = world_->begin(observed_);
  world_->step(state, {1});
  State restored = world_->restore(state.save());
  EXPECT_TRUE(world_->step(restored, {2}).equal(world_->step(state, {2})));
}

TEST_F(TinyWorldTest, APictureOfAnySizeBeginsAWorld) {
  State state = world_->begin({at::full({1, 40, 20, 3}, 90, at::kByte), 2});
  EXPECT_EQ(world_->step(state, {0}).sizes(), (std::vector<int64_t>{1, 3, 12, 12}));
}

TEST_F(TinyWorldTest, ActionsAreIndices) {
  EXPECT_EQ(world_->action_space().high, (std::vector<double>{3}));
  State state = world_->begin(observed_);
  for (const std::vector<double>& action : {std::vector<double>{4}, {-1}, {0.5}, {0, 0}, {}})
    EXPECT_THAT([&] { world_->step(state, action); }, ::testing::Throws<Error>());
}

// A draw differs by its seed, and only by that.
TEST(TinyDynamicsTest, DrawsFollowTheSeed) {
  const auto component = load_component((golden_folder() / "tinyworlds" / "dynamics").string(), "dynamics");
  const auto& dynamics = dynamic_cast<const TinyDynamics&>(*component);
  const at::Tensor codes = at::ones({1, 2, 36, 3}), actions = at::ones({1, 2, 2});
  const auto future = [&](uint64_t seed) { return dynamics.imagine(codes, actions, 4, 1.0, seed, 2); };
  EXPECT_TRUE(future(1).equal(future(1)));
  EXPECT_FALSE(future(1).equal(future(2)));
  EXPECT_EQ(future(1).size(1), 3);
}

// Sizes that shapes tell are read off them, where no config.json says more.
TEST(TinyDescribeTest, ThePartsAreTold) {
  for (const auto& [part, name] :
       {std::pair{"vae", "VideoTokenizer"}, {"latent_actions", "LatentActionModel"}, {"dynamics", "DynamicsModel"}}) {
    const auto config = describe_tiny_world(Weights::open(golden_folder() / "tinyworlds" / part / "model.safetensors"));
    ASSERT_TRUE(config) << part;
    EXPECT_EQ(config->get<std::string>("_class_name", ""), name);
    EXPECT_EQ(config->get<int64_t>("embed_dim", 0), 24);
    EXPECT_EQ(config->get<int64_t>("num_bins", 4), 4);
  }
}

// As the original saves them: three files and no index.
TEST(TinyDescribeTest, TheThreeTogetherAreAWorld) {
  const testing::TemporaryFolder folder;
  for (const char* part : {"vae", "latent_actions", "dynamics"}) {
    std::filesystem::create_directory(folder / part);
    std::filesystem::copy(golden_folder() / "tinyworlds" / part / "model.safetensors",
                          folder / part / "weights.safetensors");
  }
  const ModelDescription model = describe_model(folder.path().string());
  EXPECT_EQ(model.class_name, "TinyWorldsPipeline");
  EXPECT_EQ(describe_action_space(model)->high, (std::vector<double>{3}));
}

}  // namespace
}  // namespace orrery::models
