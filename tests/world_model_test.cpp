#include "orrery/world_model.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "orrery/error.h"
#include "orrery/tokenizer.h"
#include "support/paths.h"

namespace orrery {
namespace {

std::string doom() {
  return (testing::source_root() / "examples/worlds/doom").string();
}

Latents some_tokens(const std::string& model) {
  at::manual_seed(4);
  const at::Tensor frames = at::randint(0, 256, {1, 32, 32, 3}).to(at::kByte).repeat_interleave(5, 0);
  return CosmosTokenizer::from_pretrained(model).encode({frames, 10});
}

TEST(WorldModelTest, ActsOnTokens) {
  const auto world = CosmosWorldModel::from_pretrained(doom());
  const Latents tokens = some_tokens(doom());
  const Action forward = world.encode_action("move forward");
  const Latents future = world.generate(tokens, {.action = forward, .num_frames = 2});
  EXPECT_EQ(future.video.size(2), 2);
  EXPECT_TRUE(future.video.equal(world.generate(tokens, {.actions = {forward, forward}, .num_frames = 2}).video));
  EXPECT_FALSE(
      future.video.equal(world.generate(tokens, {.action = world.encode_action("turn left"), .num_frames = 2}).video));
  EXPECT_THROW(world.generate(tokens, {.actions = {forward}, .num_frames = 2}), Error);
  EXPECT_THROW(world.generate(tokens, {.prompt = "go", .num_frames = 2}), Error);
}

TEST(WorldModelTest, IsToldInWords) {
  const std::string model = (testing::golden_folder() / "pipelines/predict2_video2world/model").string();
  const auto world = CosmosWorldModel::from_pretrained(model);
  const Latents future = world.generate(some_tokens(model), {.prompt = "a cat", .num_frames = 9});
  EXPECT_EQ(future.video.sizes(), at::IntArrayRef({1, 4, 3, 4, 4}));
  EXPECT_THROW(world.generate({}, {.action = {1}, .num_frames = 5}), Error);
  EXPECT_THROW(world.encode_action("left"), Error);
}

}  // namespace
}  // namespace orrery
