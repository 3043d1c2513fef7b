// orrery rollout from outside: what it writes, and files of actions and noise that do not fit.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <limits>

#include "orrery/media.h"
#include "orrery/weights.h"
#include "orrery/world.h"
#include "program/run_program.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;
using testing::Ended;
using ::testing::HasSubstr;
using testing::run_program;

class RolloutTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(testing::program_path())) GTEST_SKIP() << "the program is not built";
  }
  std::string at_folder(const std::string& name) const { return (folder_ / name).string(); }
  std::string json(const std::string& text) const {
    testing::write_file(folder_ / "actions.json", text);
    return at_folder("actions.json");
  }
  std::string tensor(const std::string& name, const at::Tensor& values) const {
    save_safetensors(folder_ / (name + ".safetensors"), {{name, values}});
    return at_folder(name + ".safetensors");
  }
  // What is said of two rows and more; no file is left.
  std::string error_of(const std::string& actions, std::vector<std::string> more = {}) const {
    std::vector<std::string> line = {"rollout",
                                     "--model",
                                     world_,
                                     "-i",
                                     world_ + "/sample/first_frame.png",
                                     "--actions",
                                     actions,
                                     "-o",
                                     at_folder("out.safetensors")};
    line.insert(line.end(), more.begin(), more.end());
    const Ended ended = run_program(line);
    EXPECT_EQ(ended.code, 1);
    EXPECT_FALSE(fs::exists(folder_ / "out.safetensors"));
    return ended.err;
  }

  testing::TemporaryFolder folder_;
  std::string world_ = (testing::source_root() / "examples/worlds/pusht").string();
};

TEST_F(RolloutTest, AFileThatHoldsNoRowsIsAnError) {
  EXPECT_THAT(error_of(json("[]")), HasSubstr("0 rows"));
  EXPECT_THAT(error_of(json("{}")), HasSubstr("JSON array of rows"));
  EXPECT_THAT(error_of(at_folder("nowhere.json")), HasSubstr("cannot be read"));
  EXPECT_THAT(error_of(json(std::string(100000, '[') + std::string(100000, ']'))), HasSubstr("row 0"));
  EXPECT_THAT(error_of(tensor("actions", at::zeros({2, 2, 2}))), HasSubstr("[T, A]"));
  EXPECT_THAT(error_of(tensor("actions", at::zeros({0, 2}))), HasSubstr("[T, A]"));
  EXPECT_THAT(error_of(tensor("actions", at::scalar_tensor(3.0))), HasSubstr("[T, A]"));
  EXPECT_THAT(error_of(tensor("poses", at::zeros({2, 2}))), HasSubstr("'actions'"));
}

TEST_F(RolloutTest, ARowThatDoesNotFitIsNamed) {
  EXPECT_THAT(error_of(json("[[9,9,9]]")), HasSubstr("row 0: action: has the wrong width"));
  EXPECT_THAT(error_of(json(R"(["left","fly"])")), HasSubstr("row 1: action"));
  EXPECT_THAT(error_of(json("[[9,null]]")), HasSubstr("row 0: action[1]"));
  EXPECT_THAT(error_of(json("[[9,900]]")), HasSubstr("0 … 512"));
}

TEST_F(RolloutTest, NoiseThatDoesNotFitIsNamed) {
  const std::string two = json("[[9,9],[9,9]]");
  EXPECT_THAT(error_of(two, {"--noise", tensor("noise", at::zeros({1, 3}))}), HasSubstr("too few draws"));
  EXPECT_THAT(error_of(two, {"--noise", tensor("noise", at::scalar_tensor(1.0))}), HasSubstr("too few draws"));
  EXPECT_THAT(error_of(two, {"--noise", tensor("noise", at::zeros({2, 3}))}), HasSubstr("noise: does not fit a step"));
  EXPECT_THAT(error_of(two, {"--noise", tensor("noise", at::full({2, 8, 8, 8}, std::numeric_limits<float>::quiet_NaN()))}),
              HasSubstr("noise: is not finite"));
}

// A recording goes from one process to another.
TEST_F(RolloutTest, ARecordingIsImaginedAgainToTheByte) {
  const std::string drive = at_folder("drive");
  const auto roll = [&](const std::string& world, std::vector<std::string> more, const std::string& output) {
    std::vector<std::string> line = {"rollout", "--model", world, "-o", at_folder(output)};
    line.insert(line.end(), more.begin(), more.end());
    return run_program(line);
  };
  const Ended first = roll(world_,
                           {"-i", world_ + "/sample/first_frame.png", "--actions", json(R"(["left",[9,400],"up"])"),
                            "--seed", "11", "--record", drive},
                           "first.safetensors");
  ASSERT_EQ(first.code, 0) << first.err;
  const Ended again = roll(world_, {"--replay", drive}, "again.safetensors");
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("3 steps, each the same to the byte"));
  EXPECT_TRUE(load_safetensors(at_folder("first.safetensors"))
                  .at("video")
                  .equal(load_safetensors(at_folder("again.safetensors")).at("video")));

  const std::string other = (testing::source_root() / "examples/worlds/doom").string();
  EXPECT_THAT(roll(other, {"--replay", drive}, "other.safetensors").err, HasSubstr("belongs to another model"));
  std::string damaged = testing::read_file(drive);
  damaged[damaged.size() / 2] ^= 1;
  testing::write_file(at_folder("damaged"), damaged);
  const Ended refused = roll(world_, {"--replay", at_folder("damaged")}, "damaged.safetensors");
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("is damaged"));
  EXPECT_FALSE(fs::exists(at_folder("damaged.safetensors")));
}

// 100 frames: more than one of the blocks in which they are kept.
TEST_F(RolloutTest, TheFileHoldsWhatTheWorldImagines) {
  const int64_t steps = 100;
  const at::Tensor actions = at::rand({steps, 2}, at::kFloat) * 512;
  const Ended ended = run_program({"rollout", "--model", world_, "-i", world_ + "/sample/first_frame.png", "--actions",
                                   tensor("actions", actions), "--seed", "7", "-o", at_folder("out.safetensors")});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const TensorMap written = load_safetensors(at_folder("out.safetensors"));
  const at::Tensor &video = written.at("video"), &latents = written.at("latents");
  ASSERT_EQ(video.sizes(), (at::IntArrayRef{1, 3, steps, 64, 64}));
  ASSERT_EQ(latents.size(0), steps);
  const auto world = World::from_pretrained(world_);
  State state = world->begin(read_video(world_ + "/sample/first_frame.png"), 7);
  for (int64_t i = 0; i < steps; ++i) {
    const at::Tensor frame = world->step(state, {actions[i][0].item<double>(), actions[i][1].item<double>()});
    ASSERT_TRUE(video.select(2, i).equal(frame)) << i;
    ASSERT_TRUE(latents[i].equal(state.last)) << i;
  }
}

TEST_F(RolloutTest, WhatCannotBeDoneIsSaidBeforeTheWork) {
  EXPECT_THAT(error_of(json("[[9,9]]"), {"--record", "/nonexistent/drive"}), HasSubstr("folder does not exist"));
  world_ = (testing::source_root() / "examples/models/taef2").string();
  EXPECT_THAT(error_of(json("[[9,9]]")), HasSubstr("is no interactive world"));
}

}  // namespace
}  // namespace orrery
