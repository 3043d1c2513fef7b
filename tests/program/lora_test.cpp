// --lora from outside.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "orrery/weights.h"
#include "program/run_program.h"
#include "support/compare.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using testing::Ended;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string golden(const std::string& path) {
  return (testing::golden_folder() / path).string();
}

class LoraProgramTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(testing::program_path())) GTEST_SKIP() << "the program is not built";
  }
  Ended eval(const std::vector<std::string>& loras) const {
    std::vector<std::string> arguments = {"eval",
                                          "--model",
                                          golden("transformer_wan_text2video/model"),
                                          "--call",
                                          "transformer.forward",
                                          "--inputs",
                                          golden("transformer_wan_text2video/in.safetensors"),
                                          "--output",
                                          (folder_ / "out.safetensors").string()};
    for (const std::string& lora : loras) arguments.insert(arguments.end(), {"--lora", lora});
    return testing::run_program(arguments);
  }
  testing::TemporaryFolder folder_;
};

TEST_F(LoraProgramTest, SeveralWithScalesMerge) {
  const Ended ended =
      eval({golden("lora_two/lora_two.safetensors") + ":0.5", golden("lora_kohya/lora.safetensors") + ":-0.25"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_TRUE(testing::is_close(load_safetensors(folder_ / "out.safetensors").at("sample"),
                                load_safetensors(golden("lora_two/expected.safetensors")).at("sample"),
                                testing::kComponentParity));
}

TEST_F(LoraProgramTest, ALoraOfAnotherModelIsAnError) {
  const Ended ended = eval({golden("lora_cosmos_original/lora.pt")});
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err,
              AllOf(StartsWith("error: weights: "), HasSubstr("blocks.0.cross_attn"), HasSubstr("of another model")));
}

TEST_F(LoraProgramTest, AFileThatIsNotThereAndAComponentThatIsNotThereAreNamed) {
  EXPECT_THAT(eval({"nowhere.safetensors:2"}).err, AllOf(StartsWith("error: "), HasSubstr("nowhere.safetensors")));
  const Ended other = eval({"transformer_2=" + golden("lora_kohya/lora.safetensors")});
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err, HasSubstr("transformer_2"));
}

}  // namespace
}  // namespace orrery
