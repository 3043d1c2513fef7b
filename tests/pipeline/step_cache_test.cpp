// Blocks left out from step to step: what is remembered, where, and how long. Parity with the reference is the business of
// tests/golden/pipelines/*_step_cache.
#include "orrery/step_cache.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "orrery/pipeline.h"
#include "support/compare.h"
#include "support/errors.h"
#include "support/paths.h"
#include "support/pipeline_case.h"

namespace orrery {
namespace {

constexpr double kAlways = 1e9;  // every look that can be shortened is

struct Model {
  explicit Model(const std::string& name)
      : folder(testing::golden_folder() / "pipelines" / name),
        pipeline(WorldModelPipeline::from_pretrained(testing::model_of(folder))),
        options(testing::options_of(folder)) {
    options.steps = 3;
  }
  std::filesystem::path folder;
  WorldModelPipeline pipeline;
  GenerateOptions options;
};

std::string error_of(const Model& model) {
  return testing::error_of([&] { model.pipeline.generate_latents(model.options); });
}

TEST(StepCacheTest, TheFirstLookOfEachPassRunsInFull) {
  Model model("predict2_video2world");
  model.options.step_cache = kAlways;
  const Generated first = model.pipeline.generate_latents(model.options);
  EXPECT_EQ(first.passes, 2 * 3);
  EXPECT_EQ(first.shortened, first.passes - 2);
  const Generated second = model.pipeline.generate_latents(model.options);  // another generation remembers nothing
  EXPECT_EQ(second.shortened, first.shortened);
  EXPECT_TRUE(second.latents.equal(first.latents));
}

TEST(StepCacheTest, ThresholdZeroChangesNothing) {
  Model model("predict2_video2world");
  const Generated exact = model.pipeline.generate_latents(model.options);
  EXPECT_EQ(exact.passes, 0);  // nothing is counted where there is no cache
  model.options.step_cache = 0;
  const Generated cached = model.pipeline.generate_latents(model.options);
  EXPECT_EQ(cached.shortened, 0);
  EXPECT_TRUE(cached.latents.equal(exact.latents));
}

TEST(StepCacheTest, TwoNetworksRememberApart) {
  Model model("wan22_text2video_two_transformers");
  model.options.steps = 6;
  model.options.step_cache = kAlways;
  const Generated future = model.pipeline.generate_latents(model.options);
  EXPECT_EQ(future.passes, 2 * 6);
  EXPECT_EQ(future.shortened, future.passes - 2 * 2);
}

TEST(StepCacheTest, AWindowRemembersNothingOfTheOneBefore) {
  Model model("transfer25_two_windows_unguided");
  model.options.step_cache = kAlways;
  const Generated future = model.pipeline.generate(model.options);
  EXPECT_EQ(future.windows.size(), 2u);
  EXPECT_EQ(future.passes, 2 * 3);
  EXPECT_EQ(future.shortened, future.passes - 2);
}

TEST(StepCacheTest, AThresholdThatIsNoneIsAnError) {
  Model model("predict2_video2world");
  for (const double wrong : {-0.1, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    model.options.step_cache = wrong;
    EXPECT_NE(error_of(model).find("0 or more"), std::string::npos) << error_of(model);
  }
}

TEST(StepCacheTest, WhereNoBlocksCanBeLeftOutItIsAnError) {
  for (const char* name : {"causal_wan_text2video", "wan21_first_last"}) {  // made piece by piece; of one block
    Model model(name);
    model.options.step_cache = 0.1;
    EXPECT_NE(error_of(model).find("chain of blocks"), std::string::npos) << error_of(model);
  }
}

TEST(StepCacheTest, WhatIsRememberedIsOfTheLastLookInFull) {
  const auto run = std::make_shared<StepCacheRun>();
  run->threshold = 0.5;
  StepCache cache(run);
  const at::Tensor input = at::ones({1, 2, 3});
  const auto look = [&](double change) {  // the first block adds `change`, the others make ten times as much of it
    at::Tensor hidden = input + change;
    if (!cache.shortens(input, hidden)) cache.keep(hidden = hidden * 10);
    return hidden;
  };
  EXPECT_TRUE(testing::is_close(look(1), input * 20, testing::kSameMath));
  EXPECT_TRUE(testing::is_close(look(1.4), input * (2.4 + 18), testing::kSameMath));
  EXPECT_TRUE(testing::is_close(look(1.8), input * 28, testing::kSameMath));  // near to 1.4, but that was not in full
  EXPECT_TRUE(testing::is_close(look(1.4), input * (2.4 + 25.2), testing::kSameMath));
  EXPECT_EQ(run->passes, 4);
  EXPECT_EQ(run->shortened, 2);
  at::Tensor broken = input * std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(cache.shortens(input, broken));
}

}  // namespace
}  // namespace orrery
