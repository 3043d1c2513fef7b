// What `inspect` predicts and what --max-memory spares, against the memory that a mid-size network with random weights
// really takes.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <sstream>
#include <string>

#include "orrery/config.h"
#include "orrery/error.h"
#include "orrery/load.h"
#include "orrery/pipeline.h"
#include "orrery/weights.h"
#include "support/compare.h"
#include "support/errors.h"
#include "support/far_device.h"
#include "support/paths.h"
#include "support/peak_memory.h"
#include "support/temporary.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kWidth = 512, kText = 512, kTextTokens = 512, kLora = 64, kChannels = 4;
constexpr double kPictureFactor = 1.5, kVideoFactor = 2;  // how far a prediction may be off

TensorMap weights(int64_t layers, int64_t in_channels) {
  TensorMap tensors;
  const auto add = [&](const std::string& name, at::IntArrayRef shape) {
    const at::Tensor values =
        shape.size() == 1 ? at::ones(shape) : at::randn(shape) / std::sqrt(static_cast<double>(shape[1]));
    tensors[name + ".weight"] = values.to(at::kBFloat16);
  };
  add("patch_embed.proj", {kWidth, 4 * (in_channels + 1)});
  add("time_embed.t_embedder.linear_1", {kWidth, kWidth});
  add("time_embed.t_embedder.linear_2", {3 * kWidth, kWidth});
  add("time_embed.norm", {kWidth});
  add("norm_out.linear_1", {kLora, kWidth});
  add("norm_out.linear_2", {2 * kWidth, kLora});
  add("proj_out", {4 * kChannels, kWidth});
  for (int64_t i = 0; i < layers; ++i) {
    std::ostringstream name;
    name << "transformer_blocks." << i << ".";
    const std::string block = name.str();
    for (const char* attention : {"attn1.", "attn2."})
      for (const char* part : {"to_q", "to_k", "to_v", "to_out.0"}) add(block + attention + part, {kWidth, kWidth});
    for (const char* norm : {"attn1.norm_q", "attn1.norm_k", "attn2.norm_q", "attn2.norm_k"}) add(block + norm, {64});
    add(block + "ff.net.0.proj", {4 * kWidth, kWidth});
    add(block + "ff.net.2", {kWidth, 4 * kWidth});
    for (const char* norm : {"norm1.", "norm2.", "norm3."}) {
      add(block + norm + "linear_1", {kLora, kWidth});
      add(block + norm + "linear_2", {3 * kWidth, kLora});
    }
  }
  return tensors;
}

class MidSizeTest : public ::testing::Test {
 protected:
  static fs::path parts(bool video) {
    return fs::absolute(testing::golden_folder()) / "pipelines" /
           (video ? "predict2_video2world" : "predict2_text2image_prompt") / "model";
  }
  // A folder with a network of so many blocks, its other parts a golden case's.
  std::string model(int64_t layers, bool video = false) const {
    for (const char* part : {"model_index.json", "scheduler", "vae"})
      fs::create_symlink(parts(video) / part, folder_ / part);
    const int64_t in_channels = kChannels + (video ? 1 : 0);
    std::ostringstream config;
    config
        << R"({"_class_name": "CosmosTransformer3DModel", "out_channels": 4, "attention_head_dim": 64, "num_attention_heads": 8,
        "text_embed_dim": 512, "adaln_lora_dim": 64, "max_size": [8, 240, 240], "extra_pos_embed_type": null,
        "rope_scale": [1.0, 4.0, 4.0], "concat_padding_mask": true, "in_channels": )"
        << in_channels << ", \"num_layers\": " << layers << "}";
    testing::write_file(folder_ / "transformer/config.json", config.str());
    save_safetensors(folder_ / "transformer/diffusion_pytorch_model.safetensors", weights(layers, in_channels));
    return folder_.path().string();
  }
  int64_t stored() const {
    return static_cast<int64_t>(fs::file_size(folder_ / "transformer/diffusion_pytorch_model.safetensors"));
  }

  testing::TemporaryFolder folder_;
};

class MemoryTest : public MidSizeTest {
 protected:
  void SetUp() override {
    if (!testing::can_measure_peak_memory()) GTEST_SKIP() << "the peak of this process cannot be measured here";
    at::manual_seed(3);
    // Once with small parts, so that what is loaded and kept for good is not counted.
    const fs::path small = parts(/*video=*/false);
    generate(WorldModelPipeline::from_pretrained(small.string()), 32, 1,
             Config::load(small / "transformer/config.json").require<int64_t>("text_embed_dim"));
  }
  static void generate(const WorldModelPipeline& pipeline, int64_t side, int64_t frames, int64_t text) {
    GenerateOptions options;
    options.prompt_embeds = at::randn({1, kTextTokens, text});
    options.height = options.width = side;
    options.num_frames = frames;
    options.steps = 1;
    options.guidance_scale = 1;
    if (frames > 1) options.seen = at::zeros({1, 3, 1, side, side});
    pipeline.generate(options, [](const at::Tensor&) {});
  }
  // Bytes at the peak above what this process had before.
  static int64_t peak_of(const std::string& path, int64_t side, int64_t frames, int64_t max_memory = 0) {
    return testing::peak_memory_of(
        [&] { generate(WorldModelPipeline::from_pretrained(path, {}, max_memory), side, frames, kText); });
  }
  static void expect_near(const std::string& path, int64_t side, int64_t frames, double factor) {
    const MemoryNeed need = predict_memory(describe_model(path), {.frames = frames, .height = side, .width = side});
    const auto predicted = static_cast<double>(std::max(need.denoise, need.decode)),
               measured = static_cast<double>(peak_of(path, side, frames));
    EXPECT_LT(predicted, factor * measured) << frames << " frames of " << side << ", denoising " << need.denoise;
    EXPECT_LT(measured, factor * predicted) << frames << " frames of " << side << ", denoising " << need.denoise;
  }
};

TEST_F(MemoryTest, APredictionForAPictureIsNear) {
  const std::string path = model(2);
  expect_near(path, 256, 1, kPictureFactor);
  expect_near(path, 512, 1, kPictureFactor);
}

TEST_F(MemoryTest, APredictionForAVideoIsNear) {
  expect_near(model(2, /*video=*/true), 256, 9, kVideoFactor);
}

TEST_F(MemoryTest, StreamedBlocksDoNotAddUp) {
  const std::string path = model(6);
  const int64_t whole = peak_of(path, 64, 1), streamed = peak_of(path, 64, 1, /*max_memory=*/stored());
  EXPECT_LT(streamed, whole - stored() / 2) << "of " << whole << " with " << stored() << " bytes on the disk";
}

// What bfloat16 in a file costs: it is not made float32 as a whole.
TEST_F(MemoryTest, AStepTakesLittleMoreThanTheFileOfItsWeights) {
  const std::string path = model(16);
  EXPECT_LT(peak_of(path, 64, 1), stored() + stored() / 2) << "of " << stored() << " bytes on the disk";
}

// The same on a device, whose bytes are counted.
class LadderTest : public MidSizeTest {
 protected:
  void TearDown() override { testing::limit_far_memory(0); }
  at::Tensor latents(const WorldModelPipeline& pipeline, int64_t side = 64) const {
    GenerateOptions options;
    options.prompt_embeds = text_;
    options.height = options.width = side;
    options.num_frames = options.steps = 1;
    options.guidance_scale = 1;
    return pipeline.generate(options).latents;
  }
  WorldModelPipeline load(int64_t max_memory, const LoadOptions& options = {.device = testing::far_device()}) const {
    return WorldModelPipeline::from_pretrained(path_, options, max_memory);
  }

  std::string path_ = model(6);
  at::Tensor text_ = at::randn({1, kTextTokens, kText});
};

TEST_F(LadderTest, ADeviceHoldsOneBlockAtATimeAndSaysTheSame) {
  testing::take_far_peak();
  const at::Tensor whole = latents(load(0));
  const int64_t resident = testing::take_far_peak();
  const at::Tensor streamed = latents(load(stored()));
  const int64_t peak = testing::take_far_peak();
  EXPECT_TRUE(streamed.equal(whole));
  EXPECT_TRUE(testing::is_close(streamed, latents(load(0, {})), testing::kSameMath));
  EXPECT_GT(resident, stored());
  EXPECT_LT(peak, resident - stored() / 2);
  EXPECT_LE(peak, stored()) << "the bytes that it was given";
}

TEST_F(LadderTest, WhatADeviceCannotHoldNamesTheRungThatFits) {
  using ::testing::AllOf;
  using testing::error_of;
  using ::testing::HasSubstr;
  testing::limit_far_memory(stored());
  EXPECT_THAT(error_of([&] { latents(load(0)); }),
              AllOf(HasSubstr("device: "), HasSubstr("out of memory"), HasSubstr("--max-memory")));
  const WorldModelPipeline streams = load(stored());
  EXPECT_EQ(error_of([&] { latents(streams); }), "no error");
  EXPECT_THAT(error_of([&] { latents(streams, 1024); }), AllOf(HasSubstr("out of memory"), HasSubstr("--window")));
  EXPECT_EQ(error_of([&] { latents(streams); }), "no error");  // and it goes on
  EXPECT_THAT(error_of([&] { load(1000); }), AllOf(HasSubstr("max memory"), HasSubstr("at least"), HasSubstr("one block")));
  EXPECT_THAT(error_of([&] { load(stored(), {.device = testing::far_device(), .weights = WeightForm::kInt8}); }),
              HasSubstr("--weights"));
}

}  // namespace
}  // namespace orrery
