#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "orrery/config.h"
#include "orrery/error.h"
#include "orrery/text.h"
#include "orrery/weights.h"
#include "support/paths.h"

namespace orrery {
namespace {

class TextTokenizerCaseTest : public ::testing::TestWithParam<const char*> {};

// Ids equal those of transformers on every text of a case (scripts, accents, emoji, white space, empty, over-long).
TEST_P(TextTokenizerCaseTest, EqualsItsReference) {
  const auto folder = testing::golden_folder() / GetParam();
  const auto args = Config::load(folder / "case.json").require<std::vector<std::string>>("args");
  std::vector<std::string> texts;
  int64_t max_length = 0;
  for (size_t i = 0; i + 1 < args.size(); i += 2) {
    if (args[i] == "--text") texts.push_back(args[i + 1]);
    if (args[i] == "--max-length") max_length = std::stoll(args[i + 1]);
  }
  const TokenizedText tokens = TextTokenizer::open(folder / "model")->encode(texts, max_length);
  const TensorMap expected = load_safetensors(folder / "expected.safetensors");
  EXPECT_TRUE(tokens.input_ids.equal(expected.at("input_ids")));
  EXPECT_TRUE(tokens.attention_mask.equal(expected.at("attention_mask")));
}

INSTANTIATE_TEST_SUITE_P(Golden, TextTokenizerCaseTest,
                         ::testing::Values("tokenizer_qwen2_batch", "tokenizer_qwen2_single", "tokenizer_t5_batch",
                                           "tokenizer_t5_single"),
                         [](const auto& info) { return std::string(info.param); });

// libsentencepiece once wrote over the variables of LibTorch that say whether a failed allocation throws or aborts.
TEST(TextTokenizerTest, LeavesLibTorchsOwnVariablesAlone) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "AddressSanitizer itself ends a program that asks for so much, and refuses RTLD_DEEPBIND";
#endif
  const auto tokenizer = TextTokenizer::open(testing::golden_folder() / "tokenizer_t5_batch" / "model");
  EXPECT_THROW(at::empty({int64_t{1} << 50}), c10::Error);
}

TEST(TextTokenizerTest, SeveralTextsArePaddedToTheLongest) {
  const auto tokenizer = TextTokenizer::open(testing::golden_folder() / "tokenizer_t5_batch" / "model");
  const TokenizedText tokens = tokenizer->encode({"the robot", "a"});
  EXPECT_EQ(tokens.input_ids.size(1), static_cast<int64_t>(tokenizer->ids("the robot").size()));
  EXPECT_EQ(tokens.attention_mask[1].sum().item<int64_t>(), static_cast<int64_t>(tokenizer->ids("a").size()));
}

TEST(TextTokenizerTest, SaysHowMuchWasCut) {
  const auto tokenizer = TextTokenizer::open(testing::golden_folder() / "tokenizer_t5_batch" / "model");
  const auto whole = static_cast<int64_t>(tokenizer->ids("the robot pushes the cup").size());
  EXPECT_EQ(tokenizer->encode({"the robot pushes the cup"}, 4).cut, whole - 4);
}

TEST(TextTokenizerTest, AFolderWithoutATokenizerIsAnError) {
  EXPECT_THROW(TextTokenizer::open(testing::golden_folder()), Error);
}

TEST(TextTokenizerTest, TextThatIsNoUtf8IsAnError) {
  const auto tokenizer = TextTokenizer::open(testing::golden_folder() / "tokenizer_qwen2_batch" / "model");
  EXPECT_THROW(tokenizer->ids("a\xff"), Error);
}

TEST(TextTokenizerTest, CollapsesWhiteSpace) {
  EXPECT_EQ(collapse_white_space("  a \n\t b &amp; c "), "a b & c");
  EXPECT_EQ(collapse_white_space(" \n"), "");
}

TEST(TextTokenizerTest, ChatHasOneMarkPairATurn) {
  EXPECT_EQ(chat_text({{"system", "S"}, {"user", "U"}}), "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n");
}

}  // namespace
}  // namespace orrery
