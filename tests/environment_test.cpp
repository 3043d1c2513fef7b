#include "orrery/environment.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "orrery/error.h"
#include "support/paths.h"

namespace orrery {
namespace {

using Rows = std::vector<std::vector<double>>;

ResetOptions only(int64_t world) {
  ResetOptions options;
  options.only = {world};
  return options;
}

class EnvironmentTest : public ::testing::Test {
 protected:
  std::shared_ptr<const World> world_ = World::from_pretrained(
      (testing::golden_folder().parent_path().parent_path() / "examples" / "worlds" / "golden" / "tiny_model").string());
  Video first_{at::full({1, 33, 47, 3}, 90, at::kByte), 0};
};

TEST_F(EnvironmentTest, TheSameSeedGivesTheSameEpisode) {
  Environment one(world_, {.first = first_, .count = 2}), other(world_, {.first = first_, .count = 2});
  EXPECT_TRUE(one.reset(5).equal(other.reset(5)));
  const Rows actions = {{1, 2}, {300, 400}};
  const Steps a = one.step(actions), b = other.step(actions);
  EXPECT_TRUE(a.observations.equal(b.observations));
  EXPECT_EQ(a.observations.sizes(), (std::vector<int64_t>{2, world_->height(), world_->width(), 3}));
  one.reset();
  other.reset(6);
  EXPECT_FALSE(one.step(Rows{{1, 2}, {1, 2}}).observations.equal(other.step(Rows{{1, 2}, {1, 2}}).observations));
}

TEST_F(EnvironmentTest, HooksGiveRewardEndAndInfo) {
  Environment environment(world_, {.first = first_,
                                   .max_steps = 3,
                                   .reward = [](const StepView& view) { return view.info["asked"] = view.action[0]; },
                                   .terminated = [](const StepView& view) { return view.action[1] == 9; }});
  environment.reset(1);
  Steps steps = environment.step({7, 2});
  EXPECT_EQ(steps.rewards[0], 7);
  EXPECT_EQ(steps.info[0].at("asked"), 7);
  EXPECT_EQ(steps.info[0].at("step"), 1);
  EXPECT_FALSE(steps.terminated[0] || steps.truncated[0]);
  environment.step({7, 2});
  EXPECT_TRUE(environment.step({7, 2}).truncated[0]);
  EXPECT_THROW(environment.step({7, 2}), Error);  // over
  environment.reset(1);
  EXPECT_TRUE(environment.step({1, 9}).terminated[0]);
}

TEST_F(EnvironmentTest, OneOfSeveralMayBeginAgain) {
  Environment environment(world_, {.first = first_, .count = 3, .max_steps = 5});
  EXPECT_THROW(environment.reset(1, only(1)), Error);  // the others never began
  environment.reset(1);
  environment.step(Rows(3, {1, 2}));
  environment.reset(8, only(1));
  const Steps steps = environment.step(Rows(3, {1, 2}));
  EXPECT_EQ(steps.info[0].at("step"), 2);
  EXPECT_EQ(steps.info[1].at("step"), 1);
  EXPECT_THROW(environment.reset(1, only(3)), Error);
}

TEST_F(EnvironmentTest, WhatDoesNotFitIsAnError) {
  EXPECT_THROW(Environment(world_, {.count = 0}), Error);
  Environment environment(world_, {.count = 2});
  EXPECT_THROW(environment.reset(1), Error);  // no first picture
  ResetOptions with_picture;
  with_picture.first = first_;
  environment.reset(1, with_picture);
  EXPECT_THROW(environment.step(Rows{{1, 2}}), Error);
  EXPECT_THROW(environment.step(Rows{{1, 2}, {1, std::nan("")}}), Error);
  EXPECT_NO_THROW(environment.step(Rows{{1, 2}, {1, 3}}));  // nothing moved before
}

}  // namespace
}  // namespace orrery
