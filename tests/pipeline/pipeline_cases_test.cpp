// Every folder of tests/golden/pipelines is a whole generation of the reference pipeline: prompt or embeddings, noise,
// steps, guidance.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "orrery/config.h"
#include "orrery/error.h"
#include "orrery/pipeline.h"
#include "orrery/preview.h"
#include "orrery/weights.h"
#include "support/compare.h"
#include "support/errors.h"
#include "support/far_device.h"
#include "support/paths.h"
#include "support/pipeline_case.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

using testing::model_of;
using testing::options_of;

fs::path cases() {
  return testing::golden_folder() / "pipelines";
}

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  if (fs::is_directory(cases()))
    for (const auto& item : fs::directory_iterator(cases())) names.push_back(item.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

class PipelineCaseTest : public ::testing::TestWithParam<std::string> {};

// `tight`: there is memory for as many bytes as the weights take in all, so that the largest part streams its blocks.
void expect_the_reference(const std::string& name, at::Device device, bool tight = false) {
  const fs::path folder = cases() / name;
  int64_t memory = 0;
  for (const auto& item :
       fs::recursive_directory_iterator(model_of(folder), fs::directory_options::follow_directory_symlink))
    if (tight && item.path().extension() == ".safetensors") memory += static_cast<int64_t>(item.file_size());
  const auto pipeline = WorldModelPipeline::from_pretrained(model_of(folder), {.device = device}, memory);
  const Generated future = pipeline.generate(options_of(folder));
  const TensorMap expected = load_safetensors(folder / "expected.safetensors");
  if (expected.contains("latents")) {  // a long future has several
    const at::Tensor latents = expected.at("latents").dim() == 4 ? future.latents.squeeze(2) : future.latents;
    EXPECT_TRUE(testing::is_close(latents, expected.at("latents"), testing::kPipelineParity));
  }
  // The original loops stand for themselves; what decodes their latents, other cases have.
  if (expected.contains("video")) {
    EXPECT_TRUE(testing::is_close(future.video, expected.at("video"), testing::kPipelineParity));
  }
  const Config about = Config::load(folder / "case.json");  // what the reference's step cache counted
  EXPECT_EQ(future.passes, about.get<int64_t>("passes", 0));
  EXPECT_EQ(future.shortened, about.get<int64_t>("shortened", 0));
}

TEST_P(PipelineCaseTest, EqualsItsReference) {
  expect_the_reference(GetParam(), at::kCPU);
}
TEST_P(PipelineCaseTest, EqualsItsReferenceOnAnotherDevice) {
  expect_the_reference(GetParam(), testing::far_device());
}
TEST_P(PipelineCaseTest, EqualsItsReferenceWithBlocksStreamedToAnotherDevice) {
  testing::take_far_streams();
  expect_the_reference(GetParam(), testing::far_device(), /*tight=*/true);
  EXPECT_EQ(testing::take_far_streams().races, 0);
}

INSTANTIATE_TEST_SUITE_P(Golden, PipelineCaseTest, ::testing::ValuesIn(case_names()),
                         [](const auto& info) { return std::string(info.param); });

class TwoControlsTest : public ::testing::Test {
 protected:
  std::string error_of(const GenerateOptions& options) const {
    return testing::error_of([&] { pipeline_.generate(options); });
  }
  fs::path folder_ = cases() / "transfer25_two_controls";
  WorldModelPipeline pipeline_ = WorldModelPipeline::from_pretrained((folder_ / "model").string());
  GenerateOptions options_ = options_of(folder_);
};

TEST_F(TwoControlsTest, AControlWithoutWeightDoesNotCount) {
  options_.steps = 1;
  for (Control& control : options_.controls) control.mask = at::Tensor();
  options_.controls[1].weight = 0;
  const at::Tensor both = pipeline_.generate_latents(options_).latents;
  options_.controls.resize(1);
  EXPECT_TRUE(testing::is_close(both, pipeline_.generate_latents(options_).latents, testing::kSameMath));
}

TEST_F(TwoControlsTest, WhatDoesNotFitIsNamed) {
  const auto with = [&](const auto& change) {
    GenerateOptions options = options_;
    change(options.controls[1]);
    return error_of(options);
  };
  EXPECT_NE(with([](Control& c) { c.kind = "sketch"; }).find("one of depth, edge"), std::string::npos);
  EXPECT_NE(with([](Control& c) { c.kind = "edge"; }).find("given twice"), std::string::npos);
  EXPECT_NE(with([](Control& c) { c.video = c.video.slice(2, 1); }).find("another length"), std::string::npos);
  EXPECT_NE(with([](Control& c) { c.mask = c.mask.slice(2, 1); }).find("mask"), std::string::npos);
}

class PipelineTest : public ::testing::Test {
 protected:
  fs::path folder_ = cases() / "predict2_video2world";
  WorldModelPipeline pipeline_ = WorldModelPipeline::from_pretrained((folder_ / "model").string());
  GenerateOptions options_ = options_of(folder_);
  std::string error_of(const GenerateOptions& options) const {
    return testing::error_of([&] { pipeline_.generate_latents(options); });
  }
};

TEST_F(PipelineTest, SameSeedGivesTheSameLatents) {
  options_.noise = at::Tensor();
  options_.seed = 3;
  options_.steps = 2;
  const at::Tensor first = pipeline_.generate_latents(options_).latents,
                   second = pipeline_.generate_latents(options_).latents;
  EXPECT_TRUE(first.equal(second));
  options_.seed = 4;
  EXPECT_FALSE(first.equal(pipeline_.generate_latents(options_).latents));
}

TEST_F(PipelineTest, ASeedIsTheSameFutureOnAnotherDevice) {
  const auto far = WorldModelPipeline::from_pretrained((folder_ / "model").string(), {.device = testing::far_device()});
  options_.noise = at::Tensor();
  options_.seed = 3;
  options_.steps = 2;
  const Generated here = pipeline_.generate(options_);
  std::vector<StepReport> steps;
  options_.on_step = [&](const StepReport& step) { steps.push_back(step); };
  const Generated there = far.generate(options_);
  EXPECT_TRUE(testing::is_close(there.latents, here.latents, testing::kSameMath));
  // This decoder makes three times as much of a difference in its latents, so both decode the same ones.
  EXPECT_TRUE(testing::is_close(there.video, pipeline_.decode(there), testing::kSameMath));
  EXPECT_TRUE(testing::is_close(far.decode(there), there.video, testing::kSameMath));  // they came back to the processor
  EXPECT_TRUE(testing::is_close(far.decode(here), here.video, testing::kSameMath));
  for (const StepReport& step : steps) EXPECT_TRUE(step.sample.is_cpu() && step.predicted.video.is_cpu());
  EXPECT_TRUE(LatentPreview(*far.autoencoder())(steps.back().predicted)
                  .frames.equal(LatentPreview(*pipeline_.autoencoder())(steps.back().predicted).frames));
}

TEST_F(PipelineTest, TheClassDecidesTheRangeOfSigmaWhateverTheFolderSays) {
  const fs::path other = fs::path(::testing::TempDir()) / "predict2_bare_scheduler";
  fs::remove_all(other);
  fs::copy(folder_ / "model", other, fs::copy_options::recursive);
  std::ofstream(other / "scheduler" / "scheduler_config.json")
      << R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_karras_sigmas": true, "sigma_max": null})";
  const auto bare = WorldModelPipeline::from_pretrained(other.string());
  EXPECT_TRUE(bare.generate_latents(options_).latents.equal(pipeline_.generate_latents(options_).latents));
}

TEST_F(PipelineTest, AFrameCountThatDoesNotFitNamesTheNearest) {
  options_.num_frames = 10;
  EXPECT_NE(error_of(options_).find("9"), std::string::npos) << error_of(options_);
  EXPECT_NE(error_of(options_).find("13"), std::string::npos) << error_of(options_);
}

TEST_F(PipelineTest, ASizeThatDoesNotFitNamesTheNearest) {
  options_.width = 50;
  EXPECT_NE(error_of(options_).find("48x32"), std::string::npos) << error_of(options_);
}

TEST_F(PipelineTest, CompatSwitchesTheSampler) {
  options_.steps = 3;
  const auto looks = [&](Compat compat) {
    int64_t count = 0;
    GenerateOptions options = options_;
    options.compat = compat;
    options.on_step = [&](const StepReport&) { ++count; };
    pipeline_.generate_latents(options);
    return count;
  };
  EXPECT_EQ(looks(Compat::kDiffusers), 3);
  EXPECT_EQ(looks(Compat::kOriginal), 4);  // the clean pass
}

TEST_F(PipelineTest, FpsModulationIsDiffusersAloneAndCanBeTurned) {
  options_.steps = 2;
  const auto latents = [&](Compat compat, std::optional<bool> modulation) {
    options_.compat = compat;
    options_.fps_modulation = modulation;
    return pipeline_.generate_latents(options_).latents;
  };
  EXPECT_TRUE(latents(Compat::kDiffusers, {}).equal(latents(Compat::kDiffusers, true)));
  EXPECT_TRUE(latents(Compat::kOriginal, {}).equal(latents(Compat::kOriginal, false)));
  EXPECT_FALSE(latents(Compat::kDiffusers, true).equal(latents(Compat::kDiffusers, false)));
}

TEST_F(PipelineTest, GuidanceFormsDifferByOneInScale) {
  options_.steps = 2;
  options_.guidance_scale = 3;
  const at::Tensor from_prompt = pipeline_.generate_latents(options_).latents;
  options_.guidance_form = GuidanceForm::kFromNegative;
  options_.guidance_scale = 4;
  EXPECT_TRUE(testing::is_close(pipeline_.generate_latents(options_).latents, from_prompt, testing::kComponentParity));
}

TEST_F(PipelineTest, NoStepsIsAnError) {
  options_.steps = 0;
  EXPECT_NE(error_of(options_).find("at least 1"), std::string::npos);
}

TEST_F(PipelineTest, AGuidanceScaleThatIsNoNumberIsAnError) {
  options_.guidance_scale = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NE(error_of(options_).find("guidance scale"), std::string::npos);
}

TEST_F(PipelineTest, NoiseOfAnotherShapeIsAnError) {
  options_.noise = at::zeros({1, 4, 3, 4, 5});
  EXPECT_NE(error_of(options_).find("noise"), std::string::npos);
}

TEST_F(PipelineTest, NanInTheLatentsNamesTheStep) {
  options_.prompt_embeds = at::full_like(options_.prompt_embeds, std::numeric_limits<float>::quiet_NaN());
  EXPECT_NE(error_of(options_).find("step 1 of"), std::string::npos) << error_of(options_);
}

TEST_F(PipelineTest, CancellingStopsBetweenSteps) {
  int64_t steps = 0;
  options_.on_step = [&](const StepReport&) {
    ++steps;
    options_.work.cancel.cancel();
  };
  EXPECT_NE(error_of(options_).find("cancelled"), std::string::npos);
  EXPECT_EQ(steps, 1);
}

TEST_F(PipelineTest, ProgressReachesItsTotal) {
  int64_t done = 0, total = 0;
  options_.work.on_progress = [&](const Progress& progress) {
    if (progress.stage == "denoise") done = progress.done, total = progress.total;
  };
  pipeline_.generate_latents(options_);
  EXPECT_EQ(done, 4);
  EXPECT_EQ(total, 4);
}

}  // namespace
}  // namespace orrery
