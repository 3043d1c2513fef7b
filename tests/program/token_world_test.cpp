// orrery generate on a world of tokens, from outside: pictures and videos in, futures out, and what is told.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "orrery/media.h"
#include "orrery/weights.h"
#include "program/run_program.h"
#include "support/compare.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::Ended;
using ::testing::HasSubstr;
using testing::run_program;

class TokenWorldProgramTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(testing::program_path())) GTEST_SKIP() << "the program is not built";
    write_video(folder_ / "nine.mkv", {pictures_, 25});
    write_video(folder_ / "one.png", {pictures_.slice(0, 0, 1), 0});
  }
  std::string at_folder(const std::string& name) const { return (folder_ / name).string(); }
  Ended generate(const std::vector<std::string>& more, const std::string& output) const {
    std::vector<std::string> line = {"generate", "--model", (worlds_ / "Cosmos-Predict1-4B").string(), "--threads", "1"};
    line.insert(line.end(), more.begin(), more.end());
    line.insert(line.end(), {"-o", at_folder(output)});
    return run_program(line);
  }
  at::Tensor indices(const std::string& name) const { return load_safetensors(folder_ / name).at("indices"); }

  testing::TemporaryFolder folder_;
  fs::path worlds_ = testing::golden_folder() / "token_worlds";
  at::Tensor pictures_ = load_safetensors(worlds_ / "in.safetensors").at("pictures");
  TensorMap expected_ = load_safetensors(worlds_ / "expected.safetensors");
};

TEST_F(TokenWorldProgramTest, AVideoGoesOnGreedilyAndTheRateIsTold) {
  const Ended ended = generate({"--video", at_folder("nine.mkv"), "--greedy", "--json"}, "a.safetensors");
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.err, AllOf(HasSubstr("18 tokens, "), HasSubstr("tokens/s")));
  const auto report = nlohmann::json::parse(ended.out);
  EXPECT_GT(report.at("tokens_per_second").get<double>(), 0);
  EXPECT_EQ(report.at("frames"), 33);
  EXPECT_TRUE(indices("a.safetensors").equal(expected_.at("video")));
  // `orrery decode` knows what was written.
  const Ended decoded = run_program({"decode", "--model", (worlds_ / "Cosmos-Tokenize1-DV8x16x16-720p").string(), "--tokens",
                                     at_folder("a.safetensors"), "-o", at_folder("b.safetensors")});
  ASSERT_EQ(decoded.code, 0) << decoded.err;
  EXPECT_TRUE(testing::is_close(load_safetensors(folder_ / "b.safetensors").at("video"),
                                load_safetensors(folder_ / "a.safetensors").at("video"), testing::kSameMath));
}

TEST_F(TokenWorldProgramTest, TheProgressLineOfATerminalTellsTheRate) {
  const Ended ended = testing::run_on_terminal({"generate", "--model", (worlds_ / "Cosmos-Predict1-4B").string(), "--threads",
                                                "1", "--video", at_folder("nine.mkv"), "-o", at_folder("a.mp4")});
  ASSERT_EQ(ended.code, 0) << ended.out;
  EXPECT_THAT(ended.out, ::testing::ContainsRegex("tokens  \\[#* *\\] [0-9]+/18  [0-9]+\\.[0-9] tokens/s  0:00 left"));
}

TEST_F(TokenWorldProgramTest, APictureBecomesAVideoFile) {
  const Ended ended = generate({"-i", at_folder("one.png"), "--num-frames", "17", "--top-k", "5"}, "a.mp4");
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(read_video(folder_ / "a.mp4").num_frames(), 17);
}

TEST_F(TokenWorldProgramTest, AVideoOfAnotherSizeNeedsAWord) {
  write_video(folder_ / "large.mkv", resize({pictures_, 25}, {.height = 64, .width = 80}));
  const Ended refused = generate({"--video", at_folder("large.mkv")}, "a.mp4");
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("48x32"), HasSubstr("80x64"), HasSubstr("--resize")));
  const Ended resized = generate({"--video", at_folder("large.mkv"), "--resize"}, "a.mp4");
  EXPECT_EQ(resized.code, 0) << resized.err;
  EXPECT_THAT(resized.err, HasSubstr("cropped"));
  save_safetensors(folder_ / "large.safetensors", {{"video", at::zeros({1, 3, 9, 64, 80})}});
  const Ended tensor = generate({"--video", at_folder("large.safetensors"), "--resize"}, "b.mp4");
  EXPECT_EQ(tensor.code, 1);
  EXPECT_THAT(tensor.err, AllOf(HasSubstr("does not change tensors"), HasSubstr("expected 48x32, got 80x64")));
}

TEST_F(TokenWorldProgramTest, OfALongVideoTheLastFramesCountAndThatIsTold) {
  write_video(folder_ / "long.mkv", {at::cat({pictures_.slice(0, 0, 3).bitwise_not(), pictures_}), 25});
  const Ended ended = generate({"--video", at_folder("long.mkv"), "--greedy"}, "a.safetensors");
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("has 12 frames: the last 9"));
  EXPECT_TRUE(indices("a.safetensors").equal(expected_.at("video")));
  const at::Tensor clip = to_input(read_video(folder_ / "long.mkv"));
  save_safetensors(folder_ / "long.safetensors", {{"video", clip}});
  const Ended tensor = generate({"--video", at_folder("long.safetensors"), "--greedy"}, "b.safetensors");
  ASSERT_EQ(tensor.code, 0) << tensor.err;
  EXPECT_THAT(tensor.err, HasSubstr("has 12 frames: the last 9"));
  EXPECT_TRUE(indices("b.safetensors").equal(expected_.at("video")));
}

TEST_F(TokenWorldProgramTest, BadValuesEndWithOneLine) {
  const std::string video = at_folder("nine.mkv");
  const auto told = [&](const std::vector<std::string>& more) {
    std::vector<std::string> line = {"--video", video};
    line.insert(line.end(), more.begin(), more.end());
    const Ended ended = generate(line, "a.mp4");
    EXPECT_EQ(ended.code, 1) << ended.err;
    return ended.err;
  };
  EXPECT_THAT(told({"--temperature", "0"}), HasSubstr("above 0"));
  EXPECT_THAT(told({"--top-p", "1.5"}), HasSubstr("at most 1"));
  EXPECT_THAT(told({"--condition-frames", "17"}), HasSubstr("one of 1, 9"));
  EXPECT_THAT(told({"--max-memory", "1KB"}), HasSubstr("--weights int8"));
  EXPECT_THAT(told({"--tokenizer", (testing::golden_folder() / "dv8x8x8_levels_encode/model").string()}),
              HasSubstr("a vocabulary of 60"));
  EXPECT_FALSE(fs::exists(folder_ / "a.mp4"));
}

TEST_F(TokenWorldProgramTest, AWorldOfAnotherKindSaysWhatRunsIt) {
  const std::string steps = (testing::golden_folder() / "tinyworlds").string();
  const Ended generated = run_program({"generate", "--model", steps, "-i", at_folder("one.png"), "-o", at_folder("a.mp4")});
  EXPECT_EQ(generated.code, 1);
  EXPECT_THAT(generated.err, AllOf(HasSubstr("TinyWorldsPipeline is a world that is driven"), HasSubstr("orrery rollout")));
  const std::string clips = (testing::golden_folder() / "pipelines/predict2_video2world/model").string();
  const Ended driven = run_program({"play", "--model", clips, "--listen", "127.0.0.1:0"});
  EXPECT_EQ(driven.code, 1);
  EXPECT_THAT(driven.err, AllOf(HasSubstr("is not driven step by step"), HasSubstr("orrery generate")));
}

TEST_F(TokenWorldProgramTest, PlayRefusesATensorThatMeansNothing) {
  save_safetensors(folder_ / "embeds.safetensors", {{"promt_embeds", at::zeros({1, 2, 3})}});
  const Ended ended =
      run_program({"play", "--model", (testing::golden_folder() / "tinyworlds").string(), "-i", at_folder("one.png"),
                   "--embeds", at_folder("embeds.safetensors"), "--listen", "127.0.0.1:0"});
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, AllOf(HasSubstr("means nothing here"), HasSubstr("got promt_embeds")));
}

}  // namespace
}  // namespace orrery
