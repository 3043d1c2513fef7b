// The published LunarLander model on recorded episodes: 20 states are seen, 20 actions imagined. The figures are those that
// its own code gives (make_lunarlander.py): RMSE of the six physical values 0.0244, 0.0276, 0.0320, 0.0485 at steps 1, 5,
// 10, 20.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "orrery/error.h"
#include "orrery/load.h"
#include "orrery/weights.h"
#include "orrery/world.h"
#include "support/compare.h"
#include "support/errors.h"
#include "support/far_device.h"
#include "support/paths.h"

namespace orrery {
namespace {

constexpr int64_t kSeen = 20, kImagined = 20, kPhysics = 6;

class LunarLanderTest : public ::testing::Test {
 protected:
  // RMSE of each imagined step [20], with the imagined actions shifted by `shift`.
  at::Tensor error_with(int64_t shift) const {
    at::Tensor actions = episodes_.at("actions").to(at::kLong).narrow(1, 0, kSeen - 1 + kImagined).clone();
    actions.slice(1, kSeen - 1).add_(shift).remainder_(4);
    const at::Tensor states = episodes_.at("observations");
    const auto future = load_component(folder_, "dynamics")
                            ->call("forward", {{"obs", states.narrow(1, 0, kSeen)}, {"actions", actions}}, {});
    const at::Tensor gap = (future.at("observation") - states.narrow(1, kSeen, kImagined)).slice(2, 0, kPhysics);
    return gap.square().mean(at::IntArrayRef{0, 2}).sqrt();
  }
  State begun(int64_t episode) const { return begun(*world_, episode); }
  State begun(const World& world, int64_t episode) const {
    WorldPrompt prompt;
    const at::Tensor seen = episodes_.at("observations").narrow(0, episode, 1).narrow(1, 0, kSeen);
    prompt.conditions.known = seen.transpose(1, 2).unsqueeze(-1).unsqueeze(-1);
    prompt.conditions.actions = episodes_.at("actions").narrow(0, episode, 1).narrow(1, 0, kSeen - 1).unsqueeze(2);
    return world.begin({}, 0, prompt);
  }
  double action(int64_t episode, int64_t step) const { return episodes_.at("actions")[episode][step].item<double>(); }

  std::string folder_ =
      (testing::golden_folder().parent_path().parent_path() / "examples" / "worlds" / "lunarlander").string();
  TensorMap episodes_ = load_safetensors(folder_ + "/sample/episodes.safetensors");
  std::unique_ptr<World> world_ = World::from_pretrained(folder_);
};

TEST_F(LunarLanderTest, ImaginesAsWellAsItsOwnCode) {
  const at::Tensor error = error_with(0);
  EXPECT_NEAR(error[0].item<double>(), 0.0244, 5e-5);
  EXPECT_NEAR(error[4].item<double>(), 0.0276, 5e-5);
  EXPECT_NEAR(error[9].item<double>(), 0.0320, 5e-5);
  EXPECT_NEAR(error[19].item<double>(), 0.0485, 5e-5);
}

TEST_F(LunarLanderTest, WrongActionsAreWorse) {
  const at::Tensor right = error_with(0), wrong = error_with(2);
  for (const int64_t step : {4, 9, 19}) EXPECT_GT(wrong[step].item<double>(), 3 * right[step].item<double>()) << step + 1;
}

TEST_F(LunarLanderTest, AsAWorldItSaysTheSame) {
  const int64_t episode = 2;
  State state = begun(episode);
  for (int64_t i = 0; i < kImagined; ++i) world_->step(state, {action(episode, kSeen - 1 + i)});
  const auto whole =
      load_component(folder_, "dynamics")
          ->call("forward",
                 {{"obs", episodes_.at("observations").narrow(0, episode, 1).narrow(1, 0, kSeen)},
                  {"actions", episodes_.at("actions").narrow(0, episode, 1).narrow(1, 0, kSeen - 1 + kImagined)}},
                 {});
  EXPECT_TRUE(testing::is_close(state.last, whole.at("observation").select(1, kImagined - 1), testing::kSameMath));
}

TEST_F(LunarLanderTest, OnAnotherDeviceItSaysTheSame) {
  const auto far = World::from_pretrained(folder_, {.device = testing::far_device()});
  State here = begun(2), there = begun(*far, 2);
  for (int64_t i = 0; i < kImagined; ++i) {
    const std::vector<double> taken = {action(2, kSeen - 1 + i)};
    EXPECT_TRUE(far->step(there, taken).equal(world_->step(here, taken))) << i;
    EXPECT_TRUE(testing::is_close(there.last.cpu(), here.last, testing::kSameMath)) << i;
  }
  EXPECT_TRUE(testing::is_close(world_->restore(there.save()).last, here.last, testing::kSameMath));
}

TEST_F(LunarLanderTest, DrawsTheLanderWhereItIs) {
  State state = begun(0);
  const at::Tensor frame = world_->step(state, world_->encode_action("main engine"));
  ASSERT_EQ(frame.sizes(), at::IntArrayRef({1, 3, world_->height(), world_->width()}));
  // The body is the only thing that is bluer than the sky above the ground.
  const at::Tensor blue = frame[0][2].gt(0.7).nonzero().to(at::kFloat).mean(0);
  EXPECT_NEAR(blue[1].item<double>(), (state.last[0][0].item<double>() + 1.2) / 2.4 * static_cast<double>(world_->width()),
              6);
}

TEST_F(LunarLanderTest, APictureBeginsNoWorldOfStates) {
  WorldPrompt prompt;
  prompt.conditions.known = at::zeros({1, 8, 1, 1, 1});
  for (const WorldPrompt& given : {WorldPrompt{}, prompt}) {  // nor is one beside the states dropped
    const std::string message = testing::error_of([&] { world_->begin({at::zeros({1, 8, 8, 3}, at::kByte), 0}, 0, given); });
    EXPECT_NE(message.find("conditions.known"), std::string::npos) << message;
  }
  EXPECT_NO_THROW(world_->begin({}, 0, prompt));
}

}  // namespace
}  // namespace orrery
