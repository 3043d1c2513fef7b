// Every folder of tests/golden/worlds is driven through the interactive interface and compared with what its reference
// imagined from the same picture, actions and noise. A new world needs a new folder only.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "orrery/error.h"
#include "orrery/weights.h"
#include "orrery/world.h"
#include "support/compare.h"
#include "support/far_device.h"
#include "support/paths.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

fs::path folder() {
  return testing::golden_folder() / "worlds";
}

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  if (fs::is_directory(folder()))
    for (const auto& item : fs::directory_iterator(folder())) names.push_back(item.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

class WorldCaseTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::vector<double> action(int64_t i) const {
    const at::Tensor row = given_.at("actions")[i].to(at::kDouble).contiguous();
    return {row.data_ptr<double>(), row.data_ptr<double>() + row.numel()};
  }
  int64_t steps() const { return given_.at("actions").size(0); }
  at::Tensor noise(int64_t i) const { return given_.at("noise")[i]; }
  State begin() const { return begin(*world_); }
  State begin(const World& world) const {
    WorldPrompt prompt;
    if (const auto embeds = given_.find("image_embeds"); embeds != given_.end()) prompt.conditions.image = embeds->second;
    if (const auto embeds = given_.find("prompt_embeds"); embeds != given_.end()) prompt.conditions.text = embeds->second;
    return world.begin({given_.at("image"), 0}, 5, prompt);
  }
  void expect_the_reference(const World& world) const {
    State state = begin(world);
    std::vector<at::Tensor> frames;
    for (int64_t i = 0; i < steps(); ++i) frames.push_back(world.step(state, action(i), noise(i)));
    const at::Tensor video = at::cat(frames, 0).transpose(0, 1).unsqueeze(0);  // [1,3,T,H,W]
    EXPECT_TRUE(testing::is_close(video.contiguous(), given_.at("video"), testing::kPipelineParity));
  }
  std::unique_ptr<World> load(at::Device device) const {
    return World::from_pretrained((folder() / GetParam() / "model").string(), {.device = device});
  }

  TensorMap given_ = load_safetensors(folder() / GetParam() / "rollout.safetensors");
  std::unique_ptr<World> world_ = load(at::kCPU);
};

TEST_P(WorldCaseTest, ARolloutEqualsItsReference) {
  expect_the_reference(*world_);
}

TEST_P(WorldCaseTest, ARolloutEqualsItsReferenceOnAnotherDevice) {
  const auto far = load(testing::far_device());
  testing::take_far_streams();
  expect_the_reference(*far);
  const testing::FarStreams did = testing::take_far_streams();
  EXPECT_EQ(did.races, 0);
  // Those that look at a finished frame once more for its keys decode it meanwhile.
  const bool overlaps = GetParam() == "matrix_game" || GetParam() == "cosmos_predict25_interactive";
  if (!std::getenv("ORRERY_FAR_DEVICE")) {
    EXPECT_EQ(did.beside > 0, overlaps) << did.beside;
  }
}

TEST_P(WorldCaseTest, AForkGoesOnAlikeAndLeavesTheOtherAlone) {
  State state = begin();
  for (int64_t i = 0; i + 1 < steps(); ++i) world_->step(state, action(i));
  State other = state.fork();
  const at::Tensor first = world_->step(state, action(steps() - 1));
  world_->step(state, action(0));
  EXPECT_TRUE(world_->step(other, action(steps() - 1)).equal(first));
}

TEST_P(WorldCaseTest, ASavedStateGoesOnAlike) {
  State state = begin();
  world_->step(state, action(0));
  State other = world_->restore(state.save());
  EXPECT_TRUE(world_->step(state, action(1)).equal(world_->step(other, action(1))));
}

// A state's bytes say nothing of the device that it lived on.
TEST_P(WorldCaseTest, ASavedStateGoesOnOnAnotherDevice) {
  const auto far = load(testing::far_device());
  for (const auto& [from, to] : {std::pair(world_.get(), far.get()), {far.get(), world_.get()}, {far.get(), far.get()}}) {
    State state = begin(*from);
    from->step(state, action(0), noise(0));
    State other = to->restore(state.save());
    EXPECT_EQ(other.save(), state.save());
    const at::Tensor here = from->step(state, action(1)), there = to->step(other, action(1));
    EXPECT_TRUE(testing::is_close(there, here, testing::kSameMath));
  }
}

TEST_P(WorldCaseTest, AForkAndARewindOnAnotherDevice) {
  const auto far = load(testing::far_device());
  State state = begin(*far);
  far->step(state, action(0));
  State other = state.fork();
  const at::Tensor first = far->step(state, action(1));
  EXPECT_TRUE(far->step(other, action(1)).equal(first));
  const std::string saved = state.save();
  far->step(state, action(0));
  state.rewind(1);
  EXPECT_EQ(state.save(), saved);
  state.rewind(1);
  EXPECT_TRUE(far->step(state, action(1)).equal(first));
}

TEST_P(WorldCaseTest, ALongLifeTakesNoMoreMemory) {
  State state = begin();
  state.history_limit = 0;
  for (int64_t i = 0; i < 5; ++i) world_->step(state, action(0));
  const int64_t early = state.bytes();
  for (int64_t i = 0; i < 3; ++i) world_->step(state, action(0));
  EXPECT_EQ(state.bytes(), early);
}

TEST_P(WorldCaseTest, WrongActionsAreErrors) {
  State state = begin();
  std::vector<double> row = action(0);
  row.push_back(0);
  EXPECT_THROW(world_->step(state, row), Error);
  row = action(0);
  row[0] = std::nan("");
  EXPECT_THROW(world_->step(state, row), Error);
  State empty;
  EXPECT_THROW(world_->step(empty, action(0)), Error);
}

TEST_P(WorldCaseTest, NamedActionsAreRows) {
  for (const auto& [name, row] : world_->action_space().named) {
    EXPECT_EQ(static_cast<int64_t>(row.size()), world_->action_space().width) << name;
    EXPECT_EQ(world_->encode_action(name), row);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, WorldCaseTest, ::testing::ValuesIn(case_names()),
                         [](const auto& info) { return info.param; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(WorldCaseTest);

}  // namespace
}  // namespace orrery
