// --weights, --step-cache and --exact from outside.
#include <gmock/gmock.h>

#include <filesystem>

#include "orrery/weights.h"
#include "program/run_program.h"
#include "support/compare.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery {
namespace {

using testing::Ended;
using ::testing::HasSubstr;
using testing::run_program;

class WeightFormTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(testing::program_path())) GTEST_SKIP() << "the program is not built";
  }
  // eval of a golden case with more arguments; its outputs in "out".
  Ended eval(const std::string& name, const std::string& call, const std::vector<std::string>& more) const {
    const auto folder = testing::golden_folder() / name;
    std::vector<std::string> arguments = {
        "eval", "--model", folder / "model", "--call", call, "--inputs", folder / "in.safetensors", "--output", out()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  }
  std::string out() const { return folder_ / "out.safetensors"; }
  at::Tensor sample() const { return load_safetensors(out()).at("sample"); }

  testing::TemporaryFolder folder_;
};

TEST_F(WeightFormTest, WhatIsLossyIsNearAndExactLeavesItOut) {
  struct Lossy {
    const char *option, *form;
    testing::Tolerance most;
  };
  const Lossy lossy[] = {{"--weights", "int8", testing::kInt8Weights},
                         {"--weights", "fp8", testing::kFloat8Weights},
                         {"--attention", "int8", testing::kInt8Attention}};
  for (const char* name : {"transformer_wan_text2video_bf16", "transformer_predict2_text2image"}) {
    const std::string call = "transformer.forward";
    ASSERT_EQ(eval(name, call, {}).code, 0);
    const at::Tensor stored = sample().clone();
    ASSERT_EQ(eval(name, call, {"--weights", "float32"}).code, 0);
    EXPECT_TRUE(testing::is_close(sample(), stored, testing::kSameMath)) << name;

    for (const auto& [option, form, most] : lossy) {
      SCOPED_TRACE(std::string(name) + " " + option + " " + form);
      ASSERT_EQ(eval(name, call, {option, form}).code, 0);
      EXPECT_TRUE(testing::is_close(sample(), stored, most));
      EXPECT_FALSE(testing::is_close(sample(), stored, testing::kSameMath)) << "was asked for and must have been used";

      const Ended exact = eval(name, call, {option, form, "--exact"});
      EXPECT_EQ(exact.code, 0);
      EXPECT_THAT(exact.err, HasSubstr("--exact"));
      EXPECT_TRUE(sample().equal(stored));
    }
  }
}

TEST_F(WeightFormTest, ANetworkWithoutOtherFormsRefusesThem) {
  const Ended ended = eval("cv8x8x8_encode", "vae.encode", {"--weights", "int8"});
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("leave --weights away"));
  const Ended looking = eval("cv8x8x8_encode", "vae.encode", {"--attention", "int8"});
  EXPECT_EQ(looking.code, 1);
  EXPECT_THAT(looking.err, HasSubstr("leave --attention away"));
  EXPECT_EQ(eval("cv8x8x8_encode", "vae.encode", {"--weights", "int4"}).code, 2);
}

TEST_F(WeightFormTest, AStepCacheIsToldAndExactLeavesItOut) {
  const auto cases = testing::golden_folder() / "pipelines", folder = cases / "wan21_text2video_step_cache";
  const auto generate = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"generate",
                                          "--json",
                                          "--model",
                                          cases / "wan21_text2video_prompt/model",
                                          "--prompt-embeds",
                                          folder / "embeds.safetensors",
                                          "--num-frames",
                                          "1",
                                          "-W",
                                          "32",
                                          "-H",
                                          "32",
                                          "--steps",
                                          "3",
                                          "-o",
                                          out()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  };
  const Ended cached = generate({"--step-cache", "1000"});
  EXPECT_THAT(cached.out, HasSubstr(R"("step_cache":{"passes":6,"shortened":4,"threshold":1000.0})"));
  const Ended exact = generate({"--step-cache", "1000", "--exact"});
  EXPECT_EQ(exact.code, 0);
  EXPECT_THAT(exact.out, ::testing::Not(HasSubstr("step_cache")));
  EXPECT_THAT(exact.err, HasSubstr("--exact: every step"));
  for (const char* wrong : {"nan", "-0.1"}) EXPECT_EQ(generate({"--step-cache", wrong}).code, 2) << wrong;
}

}  // namespace
}  // namespace orrery
