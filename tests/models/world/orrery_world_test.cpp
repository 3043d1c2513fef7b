// The bundled worlds against the golden data that examples/worlds/train/make_golden.py writes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "orrery/error.h"
#include "orrery/weights.h"
#include "orrery/world.h"
#include "support/compare.h"
#include "support/far_device.h"
#include "support/paths.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

fs::path worlds() { return testing::golden_folder().parent_path().parent_path() / "examples" / "worlds"; }

struct GoldenWorld {
  std::string name;   // of the golden file
  std::string folder;  // of the model
};
void PrintTo(const GoldenWorld& world, std::ostream* out) { *out << world.name; }  // CTest names a test by it

class OrreryWorldCaseTest : public ::testing::TestWithParam<GoldenWorld> {
 protected:
  TensorMap golden_ = load_safetensors(worlds() / "golden" / (GetParam().name + ".safetensors"));
  std::string folder_ = (worlds() / GetParam().folder).string();

  // The tensors whose names start with "call.".
  TensorMap of(const std::string& call) const {
    TensorMap out;
    for (const auto& [name, tensor] : golden_)
      if (name.starts_with(call + ".")) out[name.substr(call.size() + 1)] = tensor;
    return out;
  }

  void expect_the_components(at::Device device) const {
    const auto check = [&](const std::string& part, const std::string& function, const std::string& output) {
      const std::string call = part + "." + function;
      TensorMap inputs;
      for (const auto& [name, tensor] : of(call)) inputs[name] = tensor.to(device);
      const TensorMap told = load_component(folder_, part, {.device = device})->call(function, inputs, {});
      EXPECT_TRUE(testing::is_close(told.at(output).cpu(), golden_.at(call + "." + output), testing::kComponentParity))
          << call;
    };
    check("vae", "encode", "latent");
    check("vae", "decode", "sample");
    check("transformer", "forward", "sample");
  }
  void expect_the_rollout(at::Device device) const;
};

TEST_P(OrreryWorldCaseTest, ComponentsEqualTheirReference) {
  expect_the_components(at::kCPU);
}
TEST_P(OrreryWorldCaseTest, ComponentsEqualTheirReferenceOnAnotherDevice) {
  expect_the_components(testing::far_device());
}

void OrreryWorldCaseTest::expect_the_rollout(at::Device device) const {
  const auto world = World::from_pretrained(folder_, {.device = device});
  State state = world->begin({golden_.at("rollout.image").unsqueeze(0), 0});
  const at::Tensor actions = golden_.at("rollout.actions").to(at::kDouble), noise = golden_.at("rollout.noise");
  std::vector<at::Tensor> frames;
  for (int64_t i = 0; i < actions.size(0); ++i) {
    const at::Tensor row = actions[i].contiguous();
    frames.push_back(world->step(state, {row.data_ptr<double>(), row.data_ptr<double>() + row.numel()}, noise[i]));
    EXPECT_TRUE(testing::is_close(state.last.select(1, 0).flatten().cpu(), golden_.at("rollout.latents")[i].flatten(),
                                  testing::kPipelineParity))
        << "frame " << i;
  }
  EXPECT_TRUE(testing::is_close(at::stack(frames, 2), golden_.at("rollout.video"), testing::kPipelineParity));
}

TEST_P(OrreryWorldCaseTest, ARolloutEqualsItsReference) {
  expect_the_rollout(at::kCPU);
}
TEST_P(OrreryWorldCaseTest, ARolloutEqualsItsReferenceOnAnotherDevice) {
  expect_the_rollout(testing::far_device());
}

INSTANTIATE_TEST_SUITE_P(Golden, OrreryWorldCaseTest,
                         ::testing::Values(GoldenWorld{"tiny", "golden/tiny_model"}, GoldenWorld{"pusht", "pusht"},
                                           GoldenWorld{"doom", "doom"}),
                         [](const auto& info) { return info.param.name; });

class OrreryWorldTest : public ::testing::Test {
 protected:
  std::unique_ptr<World> world_ = World::from_pretrained((worlds() / "golden" / "tiny_model").string());
  State state_ = world_->begin({at::full({1, 33, 47, 3}, 90, at::kByte), 0}, 7);
};

TEST_F(OrreryWorldTest, AForkReplaysAndLeavesTheOtherAlone) {
  world_->step(state_, {100, 200});
  State other = state_.fork();
  const at::Tensor first = world_->step(state_, {10, 20});
  world_->step(state_, {10, 20});
  EXPECT_TRUE(world_->step(other, {10, 20}).equal(first));
}

// The processor runs it over plain buffers, a device in tensors: the same numbers, and one's state goes on on the other.
TEST_F(OrreryWorldTest, AStateGoesOnOnAnotherDeviceAndBack) {
  const auto far = World::from_pretrained((worlds() / "golden" / "tiny_model").string(), {.device = testing::far_device()});
  world_->step(state_, {100, 200});
  State there = far->restore(state_.save());
  EXPECT_TRUE(testing::is_close(far->step(there, {10, 20}), world_->step(state_, {10, 20}), testing::kComponentParity));
  State back = world_->restore(there.save());
  EXPECT_TRUE(testing::is_close(world_->step(back, {300, 1}), far->step(there, {300, 1}), testing::kComponentParity));
  there.rewind(2);
  std::vector<State> two = there.fork(2);
  const auto frames = far->step(two, std::vector<std::vector<double>>{{10, 20}, {300, 1}});
  EXPECT_TRUE(frames[0].equal(far->step(there, {10, 20})));
  EXPECT_FALSE(frames[1].equal(frames[0]));
}

// A device starts a steady step as one graph, whose kernels have the numbers that they were recorded with: what changes from
// step to step (frame, noise, action, pages) must not be among those, or frames repeat themselves.
TEST_F(OrreryWorldTest, ASteadyStepIsOneGraphOnAnotherDevice) {
  const std::string folder = (worlds() / "golden" / "tiny_model").string();
  const auto far = World::from_pretrained(folder, {.device = testing::far_device()});
  setenv("ORRERY_CUDA_GRAPHS", "off", 1);
  const auto by_kernels = World::from_pretrained(folder, {.device = testing::far_device()});
  unsetenv("ORRERY_CUDA_GRAPHS");
  const Video picture{at::full({1, 33, 47, 3}, 90, at::kByte), 0};
  State state = far->begin(picture, 7), other = by_kernels->begin(picture, 7);
  const auto expect_equal = [&](State& one, State& two, double x) {
    EXPECT_TRUE(testing::is_close(far->step(one, {x, 200}), by_kernels->step(two, {x, 200}), testing::kSameMath)) << x;
  };
  constexpr int kUntilRecorded = 3;
  for (int i = 0; i < kUntilRecorded; ++i) expect_equal(state, other, 25 * i);
  testing::take_far_launches();
  testing::take_far_streams();
  for (int i = 0; i < 2; ++i) far->step(state, {40.0 * i, 200});
  if (!std::getenv("ORRERY_FAR_DEVICE")) {
    EXPECT_TRUE(testing::take_far_launches().empty()) << "kernels are started by the graph alone";
    const testing::FarStreams did = testing::take_far_streams();
    EXPECT_EQ(did.host_waits, 2) << "for the frame of each step";
    EXPECT_EQ(did.uploaded_pageable, 0);
    EXPECT_EQ(did.races, 0);
  }
  for (int i = 0; i < 2; ++i) by_kernels->step(other, {40.0 * i, 200});
  State fork = state.fork(), other_fork = other.fork();
  expect_equal(state, other, 100);
  expect_equal(fork, other_fork, 500);
}

TEST_F(OrreryWorldTest, ActionsMatter) {
  State other = state_.fork();
  EXPECT_FALSE(world_->step(state_, {0, 0}).equal(world_->step(other, {512, 512})));
}

TEST_F(OrreryWorldTest, ALongLifeTakesNoMoreMemory) {
  for (int i = 0; i < 5; ++i) world_->step(state_, {1, 2});
  const int64_t early = state_.bytes();
  for (int i = 0; i < 20; ++i) world_->step(state_, {1, 2});
  EXPECT_EQ(state_.bytes(), early);
}

TEST_F(OrreryWorldTest, AWrongActionSaysWhatIsRight) {
  EXPECT_THROW(world_->step(state_, {1}), Error);
  EXPECT_THROW(world_->step(state_, {1, 600}), Error);
  EXPECT_THROW(world_->step(state_, {1, std::nan("")}), Error);
  EXPECT_THROW(world_->encode_action("fly"), Error);
  EXPECT_EQ(world_->encode_action("up").size(), 2u);
}

TEST_F(OrreryWorldTest, AStateThatWasNotBegunIsAnError) {
  State empty;
  EXPECT_THROW(world_->step(empty, {1, 2}), Error);
}

}  // namespace
}  // namespace orrery
