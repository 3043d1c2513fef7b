// orrery generate from outside: what is told, what is kept when the work stops half way, long futures, previews, memory.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "orrery/media.h"
#include "orrery/pipeline.h"
#include "orrery/weights.h"
#include "program/run_program.h"
#include "support/compare.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;
using testing::Ended;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::run_program;

class GenerateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(testing::program_path())) GTEST_SKIP() << "the program is not built";
  }
  std::string at_folder(const std::string& name) const { return (folder_ / name).string(); }
  std::string picture(int64_t height, int64_t width) const {
    const at::Tensor ramp = at::arange(height * width * 3).remainder(251).to(at::kByte).view({1, height, width, 3});
    write_video(folder_ / "picture.png", {ramp, 1});
    return at_folder("picture.png");
  }
  // Two steps of a tiny video-to-world model at 32x32.
  Ended generate(std::vector<std::string> more, const std::string& output, const std::string& model = "") const {
    std::vector<std::string> line = {"generate",
                                     "--model",
                                     model.empty() ? (case_ / "model").string() : model,
                                     "--prompt-embeds",
                                     (case_ / "embeds.safetensors").string(),
                                     "-W",
                                     "32",
                                     "-H",
                                     "32",
                                     "--steps",
                                     "2",
                                     "--threads",
                                     "1"};
    line.insert(line.end(), more.begin(), more.end());
    line.insert(line.end(), {"-o", at_folder(output)});
    return run_program(line);
  }

  // The model without one of its parts, which model_index.json still names.
  std::string without(const std::string& part) const {
    const fs::path folder = folder_ / ("without_" + part);
    if (fs::exists(folder)) return folder.string();
    fs::create_directories(folder);
    for (const auto& item : fs::directory_iterator(case_ / "model"))
      if (item.path().filename() != part) fs::create_symlink(fs::absolute(item.path()), folder / item.path().filename());
    return folder.string();
  }

  testing::TemporaryFolder folder_;
  fs::path case_ = testing::golden_folder() / "pipelines/predict2_video2world";
};

TEST_F(GenerateTest, APictureOfAnotherShapeIsCroppedAndThatIsTold) {
  const std::string wide = picture(32, 64);
  const Ended cropped = generate({"-i", wide, "--num-frames", "5"}, "a.safetensors");
  EXPECT_EQ(cropped.code, 0) << cropped.err;
  EXPECT_THAT(cropped.err, HasSubstr("64x32, the future 32x32: it is cropped"));
  EXPECT_THAT(generate({"-i", wide, "--num-frames", "5", "--fit", "letterbox"}, "b.safetensors").err,
              HasSubstr("letterboxed"));
  EXPECT_THAT(generate({"-i", picture(32, 32), "--num-frames", "5"}, "c.safetensors").err, Not(HasSubstr("crop")));
  EXPECT_FALSE(load_safetensors(folder_ / "a.safetensors")
                   .at("video")
                   .equal(load_safetensors(folder_ / "b.safetensors").at("video")));
}

TEST_F(GenerateTest, AnUnknownPresetListsTheKnown) {
  const Ended ended = generate({"--preset", "Cosmos-Predict9"}, "a.safetensors");
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("Cosmos-Predict2-Video2World-480p-10fps"));
}

TEST_F(GenerateTest, APromptOverTheLimitIsCutAndThatIsTold) {
  std::string prompt;
  for (int i = 0; i < 600; ++i) prompt += "dog ";
  const Ended ended =
      run_program({"generate", "--model", (case_ / "model").string(), "-p", prompt, "-i", picture(32, 32), "-W", "32", "-H",
                   "32", "--num-frames", "1", "--steps", "1", "-o", at_folder("a.safetensors")});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("tokens were cut off"));
}

TEST_F(GenerateTest, APartThatIsMissingIsNamed) {
  const std::vector<std::string> line = {"-i", picture(32, 32), "--num-frames", "5"};
  for (const std::string part : {"transformer", "vae", "scheduler"}) {
    const Ended ended = generate(line, "a.safetensors", without(part));
    EXPECT_EQ(ended.code, 1);
    EXPECT_THAT(ended.err, HasSubstr("the part '" + part + "' is missing"));
  }
  for (const std::string part : {"text_encoder", "tokenizer"}) {
    EXPECT_EQ(generate(line, "b.safetensors", without(part)).code, 0) << "embeddings were given";
    const Ended ended = run_program({"generate", "--model", without(part), "-p", "a cup", "-i", at_folder("picture.png"),
                                     "-W", "32", "-H", "32", "--num-frames", "5", "-o", at_folder("c.safetensors")});
    EXPECT_EQ(ended.code, 1);
    EXPECT_THAT(ended.err, HasSubstr("the checkpoint has no " + part + ";"));
  }
}

TEST_F(GenerateTest, AFrameCountThatDoesNotFitNamesTheNearestAndTheOption) {
  const Ended ended = generate({"-i", picture(32, 32), "--num-frames", "10"}, "a.safetensors");
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("(9 or 13), got 10"));
  EXPECT_THAT(ended.err, HasSubstr("--num-frames"));
}

TEST_F(GenerateTest, AnInterruptLeavesNothing) {
  // Sent once the first step has been shown.
  const std::string shown = at_folder("a.preview.gif");
  const std::string when_shown = "interrupt() { until [ -e " + shown +
                                 " ]; do sleep 0.02; done; kill -INT $1; };"
                                 "run() { \"$@\" & interrupt $!; wait $!; }; run";
  const Ended ended = run_program({"generate", "--model", (case_ / "model").string(), "--prompt-embeds",
                                   (case_ / "embeds.safetensors").string(), "-i", picture(32, 32), "-W", "32", "-H", "32",
                                   "--num-frames", "5", "--steps", "1000000", "--preview", "1", "-o", at_folder("a.mp4")},
                                  when_shown);
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("error: cancelled: denoise"));
  EXPECT_FALSE(fs::exists(folder_ / "a.mp4"));
}

TEST_F(GenerateTest, CompatAndGuidanceCanBeNamed) {
  const std::vector<std::string> base = {"-i", picture(32, 32), "--num-frames", "5"};
  const auto with = [&](std::vector<std::string> more, const std::string& output) {
    more.insert(more.end(), base.begin(), base.end());
    const Ended ended = generate(more, output);
    EXPECT_EQ(ended.code, 0) << ended.err;
    return load_safetensors(folder_ / output).at("video");
  };
  const at::Tensor plain = with({}, "a.safetensors");
  EXPECT_TRUE(plain.equal(with({"--compat", "diffusers"}, "b.safetensors")));
  EXPECT_FALSE(plain.equal(with({"--compat", "original"}, "c.safetensors")));
  EXPECT_FALSE(plain.equal(with({"--guidance-form", "from-negative"}, "d.safetensors")));
  EXPECT_EQ(generate({"--compat", "comfy"}, "e.safetensors").code, 2);
}

TEST_F(GenerateTest, WhatADamagedDecoderLeavesIsFinishedByDecode) {
  // The same model but for the last layer of its decoder.
  const fs::path broken = folder_ / "broken";
  fs::create_directories(broken / "vae");
  for (const auto& item : fs::directory_iterator(case_ / "model"))
    if (item.path().filename() != "vae") fs::create_symlink(fs::absolute(item.path()), broken / item.path().filename());
  fs::copy_file(case_ / "model/vae/config.json", broken / "vae/config.json");
  TensorMap tensors = load_safetensors(case_ / "model/vae/diffusion_pytorch_model.safetensors");
  at::Tensor& bias = tensors.at("decoder.conv_out.bias");
  bias = bias.clone();
  bias[1] = std::numeric_limits<float>::infinity();
  bias[0] = -std::numeric_limits<float>::infinity();
  tensors.at("decoder.conv_out.weight") = tensors.at("decoder.conv_out.weight") * std::numeric_limits<float>::infinity();
  save_safetensors(broken / "vae/diffusion_pytorch_model.safetensors", tensors);

  const std::vector<std::string> line = {"-i", picture(32, 32), "--num-frames", "15", "--window", "9", "--seed", "5"};
  const Ended whole = generate(line, "whole.safetensors");
  ASSERT_EQ(whole.code, 0) << whole.err;
  const Ended failed =
      generate({"-i", at_folder("picture.png"), "--num-frames", "9", "--seed", "5"}, "half.safetensors", broken.string());
  EXPECT_EQ(failed.code, 1);
  EXPECT_FALSE(fs::exists(folder_ / "half.safetensors"));
  ASSERT_THAT(failed.err, HasSubstr("half.safetensors.latents.safetensors"));
  const Ended finished =
      run_program({"decode", "--model", (case_ / "model").string(), "--tokens",
                   at_folder("half.safetensors.latents.safetensors"), "-o", at_folder("finished.safetensors")});
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_TRUE(testing::is_close(load_safetensors(folder_ / "finished.safetensors").at("video"),
                                load_safetensors(folder_ / "whole.safetensors").at("video").narrow(2, 0, 9),
                                testing::kSameMath));
}

TEST_F(GenerateTest, LatentsOfSeveralWindowsAreFinishedByDecode) {
  const auto pipeline = WorldModelPipeline::from_pretrained((case_ / "model").string());
  const TensorMap embeds = load_safetensors(case_ / "embeds.safetensors");
  GenerateOptions options;
  options.prompt_embeds = embeds.at("prompt_embeds");
  options.negative_prompt_embeds = embeds.at("negative_prompt_embeds");
  options.height = options.width = 32;
  options.steps = 1;
  options.num_frames = 15;
  options.window_frames = 9;
  options.seen = at::zeros({1, 3, 5, 32, 32});
  const Generated future = pipeline.generate(options);
  ASSERT_EQ(future.windows.size(), 3u);
  // As a generation whose third window could not be decoded leaves them.
  TensorMap kept;
  for (size_t i = 0; i < future.windows.size(); ++i)
    kept[i == 0 ? "latent" : "latent." + std::to_string(i)] =
        pipeline.autoencoder()->normalization().undo(future.windows[i].video);
  save_safetensors(folder_ / "kept.safetensors", kept,
                   {{"class", "AutoencoderKLWan"}, {"fps", "16"}, {"frames", "15"}, {"overlap", "5"}});
  const auto decode = [&](const std::string& output) {
    return run_program({"decode", "--model", (case_ / "model").string(), "--tokens", at_folder("kept.safetensors"), "-o",
                        at_folder(output)});
  };
  ASSERT_EQ(decode("finished.safetensors").code, 0);
  EXPECT_TRUE(
      testing::is_close(load_safetensors(folder_ / "finished.safetensors").at("video"), future.video, testing::kSameMath));
  ASSERT_EQ(decode("finished.mp4").code, 0);
  EXPECT_EQ(read_video(folder_ / "finished.mp4").num_frames(), 15);
}

TEST_F(GenerateTest, APreviewIsLeftBesideTheOutput) {
  const Ended ended = generate({"-i", picture(32, 32), "--num-frames", "5", "--steps", "5", "--preview", "2"}, "a.mp4");
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("step 2 of 5"));
  EXPECT_THAT(ended.err, HasSubstr("step 4 of 5"));
  EXPECT_THAT(ended.err, Not(HasSubstr("step 3 of 5")));
  EXPECT_EQ(read_video(folder_ / "a.preview.gif").num_frames(), 2);
}

TEST_F(GenerateTest, ATinyDecoderShowsWholePicturesAndOneOfOtherLatentsIsRefusedAtOnce) {
  const auto shown_by = [&](const fs::path& decoder) {
    return generate({"-i", picture(32, 32), "--num-frames", "5", "--preview", "1", "--preview-decoder", decoder.string()},
                    "b.mp4");
  };
  const Ended whole = shown_by(case_ / "model/vae");
  EXPECT_EQ(whole.code, 0) << whole.err;
  const Video shown = read_video(folder_ / "b.preview.gif");
  EXPECT_EQ(shown.num_frames(), 5);
  EXPECT_EQ(shown.height(), 32);
  const Ended other = shown_by(testing::golden_folder() / "autoencoder_tiny_encode/model");
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err, HasSubstr("expected 4 channels, got 5"));
  EXPECT_THAT(other.err, Not(HasSubstr("step 1")));
}

TEST_F(GenerateTest, StreamingBlocksChangesNothing) {
  const std::vector<std::string> line = {"-i", picture(32, 32), "--num-frames", "5"};
  std::vector<std::string> little = line;
  little.insert(little.end(), {"--max-memory", "64KB"});
  ASSERT_EQ(generate(line, "a.safetensors").code, 0);
  const Ended streamed = generate(little, "b.safetensors");
  ASSERT_EQ(streamed.code, 0) << streamed.err;
  EXPECT_TRUE(load_safetensors(folder_ / "a.safetensors")
                  .at("video")
                  .equal(load_safetensors(folder_ / "b.safetensors").at("video")));
}

TEST_F(GenerateTest, ActionsByNameSteerARobot) {
  const std::string model = (testing::golden_folder() / "worlds/cosmos_predict2_bridge/model").string();
  const auto run = [&](const std::string& rows, const std::string& output) {
    testing::write_file(folder_ / "actions.json", rows);
    return run_program({"generate", "--model", model, "-i", picture(16, 32), "-W", "32", "-H", "16", "--actions",
                        at_folder("actions.json"), "--steps", "1", "--threads", "1", "-o", at_folder(output)});
  };
  std::string forward, far;
  for (int i = 0; i < 12; ++i) {
    forward += (i ? "," : "") + std::string(R"("move forward")");
    far += (i ? "," : "") + std::string("[0.02, 0, 0, 0, 0, 0, 0]");
  }
  ASSERT_EQ(run("[" + forward + "]", "named.safetensors").code, 0);
  ASSERT_EQ(run("[" + far + "]", "rows.safetensors").code, 0);
  const at::Tensor video = load_safetensors(folder_ / "named.safetensors").at("video");
  EXPECT_EQ(video.size(2), 13);
  EXPECT_TRUE(video.equal(load_safetensors(folder_ / "rows.safetensors").at("video")));
  EXPECT_THAT(run("[" + forward + ",[0,0,0]]", "a.safetensors").err, HasSubstr("row 12"));
  EXPECT_THAT(run("[\"fly\"]", "a.safetensors").err, HasSubstr("'move forward'"));
  EXPECT_THAT(run("{}", "a.safetensors").err, HasSubstr("JSON array of rows"));
  const Ended inspected = run_program({"inspect", model, "--json"});
  const nlohmann::json told = nlohmann::json::parse(inspected.out);
  EXPECT_EQ(told.at("actions").at("names").size(), 7u) << inspected.err;
  EXPECT_EQ(told.at("memory").at("frames"), 13);
}

TEST_F(GenerateTest, InspectPredictsTheMemory) {
  const auto memory = [&](const std::vector<std::string>& more) {
    std::vector<std::string> line = {"inspect", (case_ / "model").string(), "--json"};
    line.insert(line.end(), more.begin(), more.end());
    const Ended ended = run_program(line);
    EXPECT_EQ(ended.code, 0) << ended.err;
    return nlohmann::json::parse(ended.out).at("memory");
  };
  const nlohmann::json released = memory({}), small = memory({"--num-frames", "9", "-W", "64", "-H", "32"});
  EXPECT_EQ(released.at("frames"), 93);
  EXPECT_EQ(released.at("width"), 1280);
  EXPECT_EQ(small.at("height"), 32);
  EXPECT_GT(released.at("peak_bytes"), small.at("peak_bytes"));
  EXPECT_GT(small.at("denoise_bytes"), 0);
}

}  // namespace
}  // namespace orrery
