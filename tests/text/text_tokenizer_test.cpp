#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "orrery/config.h"
#include "orrery/error.h"
#include "orrery/text.h"
#include "orrery/weights.h"
#include "support/paths.h"
#include "support/temporary.h"

namespace orrery {
namespace {

class TextTokenizerCaseTest : public ::testing::TestWithParam<const char*> {};

// Ids equal those of transformers on every text of a case (scripts, accents, emoji, white space, empty, over-long).
TEST_P(TextTokenizerCaseTest, EqualsItsReference) {
  const auto folder = testing::golden_folder() / GetParam();
  const Config about = Config::load(folder / "case.json");
  const auto args = about.require<std::vector<std::string>>("args");
  std::vector<std::string> texts;
  int64_t max_length = 0;
  for (size_t i = 0; i + 1 < args.size(); i += 2) {
    if (args[i] == "--text") texts.push_back(args[i + 1]);
    if (args[i] == "--max-length") max_length = std::stoll(args[i + 1]);
  }
  const TokenizedText tokens = TextTokenizer::open(folder / about.require<std::string>("model"))->encode(texts, max_length);
  const TensorMap expected = load_safetensors(folder / "expected.safetensors");
  EXPECT_TRUE(tokens.input_ids.equal(expected.at("input_ids")));
  EXPECT_TRUE(tokens.attention_mask.equal(expected.at("attention_mask")));
}

INSTANTIATE_TEST_SUITE_P(Golden, TextTokenizerCaseTest,
                         ::testing::Values("tokenizer_qwen2_batch", "tokenizer_qwen2_single", "tokenizer_t5_batch",
                                           "tokenizer_t5_single"),
                         [](const auto& info) { return std::string(info.param); });

// 243 texts: scripts, accents together with their letters and apart, emoji, digits, white space, special tokens, over-long.
class ManyTextsTest : public ::testing::Test {
 protected:
  // Every text's ids, with those of `name` in the file in their place.
  void expect_ids(const std::string& name, const std::string& folder) const {
    const auto tokenizer = TextTokenizer::open(testing::golden_folder() / folder);
    const auto ids = file_.object(name).require<std::vector<int64_t>>("ids");
    const auto lengths = file_.object(name).require<std::vector<int64_t>>("lengths");
    ASSERT_GE(texts_.size(), 200u);
    ASSERT_EQ(texts_.size(), lengths.size());
    for (size_t i = 0, at = 0; i < texts_.size(); at += static_cast<size_t>(lengths[i++])) {
      const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(at);
      EXPECT_EQ(tokenizer->ids(texts_[i]), std::vector<int64_t>(begin, begin + lengths[i])) << "'" << texts_[i] << "'";
    }
  }
  Config file_ = Config::load(testing::golden_folder() / "tokenizer_texts.json");
  std::vector<std::string> texts_ = file_.require<std::vector<std::string>>("texts");
};

TEST_F(ManyTextsTest, SentencePieceEqualsItsReference) {
  expect_ids("t5", "tokenizer_t5_texts");
}
TEST_F(ManyTextsTest, QwensBytePairsEqualTheirReference) {
  expect_ids("qwen2", "tokenizer_qwen2_batch/model");
}

// libsentencepiece once wrote over the variables of LibTorch that say whether a failed allocation throws or aborts.
TEST(TextTokenizerTest, LeavesLibTorchsOwnVariablesAlone) {
#if defined(ORRERY_SANITIZED)
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

TEST(TextTokenizerTest, ADamagedModelIsAnError) {
  const testing::TemporaryFolder folder;
  const std::string bytes = testing::read_file(testing::golden_folder() / "tokenizer_t5_texts/spiece.model");
  for (const size_t kept : {size_t{0}, size_t{1}, bytes.size() / 20, bytes.size() / 2, bytes.size() - 3}) {
    testing::write_file(folder / "spiece.model", bytes.substr(0, kept));
    EXPECT_THROW(TextTokenizer::open(folder.path()), Error) << kept;
  }
}

// Wherever the table of characters is damaged, the model is refused or makes ids of some kind.
TEST(TextTokenizerTest, ADamagedTableOfCharactersIsNoCrash) {
  const testing::TemporaryFolder folder;
  const std::string bytes = testing::read_file(testing::golden_folder() / "tokenizer_t5_texts/spiece.model");
  for (size_t i = 0; i < 40; ++i) {
    std::string damaged = bytes;
    for (size_t k = 0; k < 500; ++k)
      damaged[damaged.size() - 1 - (i * 6007 + k * 487) % 240000] ^= static_cast<char>(1 + i + k);
    testing::write_file(folder / "spiece.model", damaged);
    try {
      TextTokenizer::open(folder.path())->ids("Ein naïver Roboter: ﬁne, か\u3099, 한글, ½ ① ㎏ ＦＵＬＬ");
    } catch (const Error&) {
    }
  }
}

TEST(TextTokenizerTest, TextThatIsNoUtf8IsAnError) {
  const auto tokenizer = TextTokenizer::open(testing::golden_folder() / "tokenizer_qwen2_batch" / "model");
  EXPECT_THROW(tokenizer->ids("a\xff"), Error);
}

TEST(TextTokenizerTest, CollapsesWhiteSpace) {
  EXPECT_EQ(collapse_white_space("  a \n\t b &amp; c "), "a b & c");
  EXPECT_EQ(collapse_white_space(" \n"), "");
  EXPECT_EQ(collapse_white_space("a\u00a0\u3000 b\u2003"), "a b");
}

// As html.unescape twice: what was escaped twice is plain, too.
TEST(TextTokenizerTest, HtmlIsPlainText) {
  EXPECT_EQ(collapse_white_space("&lt;a&gt; &quot;b&quot; &amp;amp; &amp;lt;"), "<a> \"b\" & <");
  EXPECT_EQ(collapse_white_space("caf&#233; &#x4E16;&#X1F600;"), "café 世😀");
  EXPECT_EQ(collapse_white_space("&#0; &#xD800; &#1114112; R&D & &nothing; &#;"),
            "\uFFFD \uFFFD \uFFFD R&D & &nothing; &#;");
}

TEST(TextTokenizerTest, ChatHasOneMarkPairATurn) {
  EXPECT_EQ(chat_text({{"system", "S"}, {"user", "U"}}), "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n");
}

}  // namespace
}  // namespace orrery
