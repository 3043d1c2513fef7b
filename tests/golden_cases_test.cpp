// Every folder of tests/golden that holds a case.json is run against what its reference gave: whole, and for tokenizers also
// fed a few frames at a time. A new model needs new folders only.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "orrery/config.h"
#include "orrery/load.h"
#include "orrery/weights.h"
#include "support/compare.h"
#include "support/far_device.h"
#include "support/paths.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  if (fs::is_directory(testing::golden_folder()))
    for (const auto& item : fs::directory_iterator(testing::golden_folder()))
      if (fs::exists(item.path() / "case.json")) names.push_back(item.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

struct Case {
  explicit Case(const std::string& name)
      : folder(testing::golden_folder() / name), config(Config::load(folder / "case.json")) {
    const auto call = config.require<std::string>("call");
    component = call.substr(0, call.find('.'));
    function = call.substr(call.find('.') + 1);
    model = (folder / config.require<std::string>("model")).lexically_normal();
    tolerance = {config.object("tolerance").get<double>("max_rel_l2", 0)};
    const auto args = config.get<std::vector<std::string>>("args", {});
    for (size_t i = 0; i < args.size(); ++i) {
      if (args[i] == "--all-layers") options.all_layers = true;
      if (args[i] == "--text") options.texts.push_back(args.at(++i));
      if (args[i] == "--lora") {  // FILE:scale, the file in the case's folder
        const std::string lora = args.at(++i);
        const size_t colon = lora.find(':');
        load.loras.push_back({folder / lora.substr(0, colon), std::stod(lora.substr(colon + 1)), ""});
      }
      if (args[i] == "--max-length") options.max_length = std::stoll(args.at(++i));
    }
    // A tokenizer of text takes no tensors.
    if (fs::exists(folder / "in.safetensors")) inputs = load_safetensors(folder / "in.safetensors");
    expected = load_safetensors(folder / "expected.safetensors");
  }

  fs::path folder;
  Config config;
  std::string component, function;
  fs::path model;
  testing::Tolerance tolerance;
  CallOptions options;
  LoadOptions load;
  TensorMap inputs, expected;
};

class GoldenCaseTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenCaseTest, EqualsItsReference) {
  const Case golden(GetParam());
  const auto component = load_component(golden.model.string(), golden.component, golden.load);
  const TensorMap outputs = component->call(golden.function, golden.inputs, golden.options);
  for (const auto& [name, expected] : golden.expected) {
    ASSERT_TRUE(outputs.contains(name)) << name;
    EXPECT_EQ(outputs.at(name).scalar_type(), expected.scalar_type()) << name;
    EXPECT_TRUE(outputs.at(name).is_contiguous()) << name;
    EXPECT_TRUE(testing::is_close(outputs.at(name), expected, golden.tolerance)) << name;
  }
}

TEST_P(GoldenCaseTest, StreamedEqualsWhole) {
  const Case golden(GetParam());
  if (golden.component != "vae") GTEST_SKIP() << "only tokenizers stream";
  const auto component = load_component(golden.model.string(), golden.component);
  const TensorMap whole = component->call(golden.function, golden.inputs, golden.options);
  for (const int64_t frames : {1, 2, 3, 5}) {
    CallOptions options = golden.options;
    options.streaming = frames;
    const TensorMap streamed = component->call(golden.function, golden.inputs, options);
    for (const auto& [name, expected] : whole)
      EXPECT_TRUE(testing::is_close(streamed.at(name), expected, testing::kSameMath))
          << name << ", " << frames << " at a time";
  }
}

TEST_P(GoldenCaseTest, EqualsItsReferenceOnAnotherDevice) {
  Case golden(GetParam());
  if (golden.component == "tokenizer") GTEST_SKIP() << "text is tokenized by the processor";
  golden.load.device = testing::far_device();
  const auto component = load_component(golden.model.string(), golden.component, golden.load);
  TensorMap inputs;
  for (const auto& [name, tensor] : golden.inputs) inputs[name] = tensor.to(golden.load.device);
  const TensorMap outputs = component->call(golden.function, inputs, golden.options);
  for (const auto& [name, expected] : golden.expected) {
    ASSERT_TRUE(outputs.contains(name)) << name;
    EXPECT_EQ(outputs.at(name).device(), golden.load.device) << name;
    EXPECT_TRUE(testing::is_close(outputs.at(name).cpu(), expected, golden.tolerance)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, GoldenCaseTest, ::testing::ValuesIn(case_names()), [](const auto& info) {
  std::string name = info.param;  // GoogleTest takes letters, digits and '_' only
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
});
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenCaseTest);

}  // namespace
}  // namespace orrery
