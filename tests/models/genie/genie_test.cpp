// A world that fills in masked tokens, in the published layout: see tests/golden/make_genie.py.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <filesystem>

#include "models/genie/st_mask_git.h"
#include "models/genie/vq_model.h"
#include "orrery/error.h"
#include "orrery/load.h"
#include "orrery/weights.h"
#include "support/compare.h"
#include "support/paths.h"

namespace orrery::models {
namespace {

namespace fs = std::filesystem;
using ::orrery::testing::golden_folder;
using ::orrery::testing::is_close;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(GenieTest, FramesThroughTheCacheEqualTheWholeClip) {
  for (const char* name : {"genie_norms", "genie_qk_norm_mup"}) {
    const auto model = load_component((golden_folder() / name / "model").string(), "dynamics");
    const TensorMap given = load_safetensors(golden_folder() / name / "in.safetensors");
    const at::Tensor whole = model->call("logits", given, {}).at("logits");
    for (const int64_t step : {1, 2, 3})
      EXPECT_TRUE(is_close(model->call("logits", given, {.streaming = step}).at("logits"), whole, testing::kSameMath))
          << name << step;
  }
}

TEST(GenieTest, AForkImaginesAnotherFuture) {
  const auto component = load_component((golden_folder() / "genie_norms" / "model").string(), "dynamics");
  const auto& model = dynamic_cast<const FramePredictor&>(*component);
  const auto context = model.prepare(1);
  model.observe(at::zeros({1, 2, 3, 3}, at::kLong), *context);
  const auto other = context->fork();
  const at::Tensor mine = model.imagine({.steps = 2, .seed = 3}, *context);
  EXPECT_EQ(other->frames(), 2);
  EXPECT_TRUE(model.imagine({.steps = 2, .seed = 3}, *other).equal(mine));
}

TEST(GenieTest, WhatDoesNotFitIsNamed) {
  const auto component = load_component((golden_folder() / "genie_norms" / "model").string(), "dynamics");
  const auto& model = dynamic_cast<const FramePredictor&>(*component);
  const auto context = model.prepare(1);
  EXPECT_THAT([&] { model.imagine({}, *context); }, ThrowsMessage<Error>(HasSubstr("at least one known frame")));
  EXPECT_THAT(
      [&] {
        model.observe(at::zeros({1, 6, 3, 3}, at::kLong), *context);
      },
      ThrowsMessage<Error>(HasSubstr("at most 5")));
  EXPECT_THAT(
      [&] {
        model.observe(at::full({1, 1, 3, 3}, 99, at::kLong), *context);
      },
      ThrowsMessage<Error>(HasSubstr("0 … 64")));
  model.observe(at::zeros({1, 1, 3, 3}, at::kLong), *context);
  EXPECT_THAT([&] { model.imagine({.steps = 0}, *context); }, ThrowsMessage<Error>(HasSubstr("at least 1")));
  EXPECT_THAT([&] { model.imagine({.temperature = 0}, *context); }, ThrowsMessage<Error>(HasSubstr("temperature")));
}

}  // namespace
}  // namespace orrery::models
