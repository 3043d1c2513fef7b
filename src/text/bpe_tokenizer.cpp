#include "text/bpe_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "orrery/error.h"
#include "text/json_file.h"
#include "text/utf8.h"

namespace orrery::text {
namespace {

using Json = nlohmann::json;

// The words of Qwen2: contractions, letters with one leading other character, single digits, punctuation, white space.
constexpr const char* kQwenWords =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The letter that stands for each byte in vocabulary files: printable ones for themselves, the others from U+0100 on.
const std::array<std::string, 256>& byte_letters() {
  static const auto table = [] {
    std::array<std::string, 256> letters;
    int next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
      const int code = printable ? byte : next++;
      letters[byte] = code < 0x80 ? std::string(1, static_cast<char>(code))
                                  : std::string{static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
    }
    return letters;
  }();
  return table;
}

// The pattern of the Split step in tokenizer.json, where there is one.
std::string split_pattern(const Json& tokenizer) {
  const Json pre = tokenizer.value("pre_tokenizer", Json());
  if (!pre.is_object() || !pre.contains("pretokenizers")) return kQwenWords;
  for (const Json& step : pre["pretokenizers"])
    if (step.value("type", "") == "Split" && step.contains("pattern") && step["pattern"].contains("Regex"))
      return step["pattern"]["Regex"].get<std::string>();
  return kQwenWords;
}

}  // namespace

class WordSplitter {
 public:
  WordSplitter(const std::string& pattern, const std::string& place) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP, &error, &offset,
                          nullptr);
    if (!code_)
      throw Error(ErrorKind::kConfig,
                  {.place = place, .what = "has a word pattern that cannot be read", .got = "an error at character " + std::to_string(offset)});
  }
  ~WordSplitter() { pcre2_code_free(code_); }
  WordSplitter(const WordSplitter&) = delete;
  WordSplitter& operator=(const WordSplitter&) = delete;

  // Every match, and whatever stands between matches, in order.
  template <typename Take>
  void each_word(std::string_view text, const Take& take) const {
    const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
        pcre2_match_data_create_from_pattern(code_, nullptr), pcre2_match_data_free);
    size_t at = 0;
    while (at < text.size()) {
      const int found = pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, PCRE2_NO_UTF_CHECK,
                                    match.get(), nullptr);
      if (found < 0) break;
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
      if (range[1] == range[0]) break;
      if (range[0] > at) take(text.substr(at, range[0] - at));
      take(text.substr(range[0], range[1] - range[0]));
      at = range[1];
    }
    if (at < text.size()) take(text.substr(at));
  }

 private:
  pcre2_code* code_ = nullptr;
};

BpeTokenizer::BpeTokenizer(const std::filesystem::path& folder)
    : place_(folder.string()), added_tokens_(AddedTokens::read(folder)) {
  namespace fs = std::filesystem;
  std::string pattern = kQwenWords;
  const auto add_merge = [this](const std::string& pair) { ranks_.emplace(pair, static_cast<int64_t>(ranks_.size())); };
  try {
    if (fs::exists(folder / "tokenizer.json")) {
      const Json tokenizer = read_json(folder / "tokenizer.json");
      const Json& model = tokenizer.at("model");
      if (model.value("type", "BPE") != "BPE")
        throw Error(ErrorKind::kUnsupported,
                    {.place = place_, .what = "is a tokenizer that is not known", .expected = "BPE", .got = model.value("type", "")});
      vocabulary_ = model.at("vocab").get<std::unordered_map<std::string, int64_t>>();
      for (const Json& merge : model.at("merges"))
        add_merge(merge.is_string() ? merge.get<std::string>() : merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>());
      pattern = split_pattern(tokenizer);
    } else {
      vocabulary_ = read_json(folder / "vocab.json").get<std::unordered_map<std::string, int64_t>>();
      std::ifstream merges(folder / "merges.txt");
      for (std::string line; std::getline(merges, line);)
        if (!line.empty() && !line.starts_with("#version")) add_merge(line);
    }
    if (fs::exists(folder / "tokenizer_config.json")) {
      const Json config = read_json(folder / "tokenizer_config.json");
      if (config.contains("pad_token")) {
        const Json& pad = config["pad_token"];
        const std::string name = pad.is_string() ? pad.get<std::string>() : pad.value("content", "");
        if (const auto id = added_tokens_.find(name)) pad_id_ = *id;
        if (const auto found = vocabulary_.find(name); found != vocabulary_.end()) pad_id_ = found->second;
      }
    }
  } catch (const Json::exception& error) {
    throw Error(ErrorKind::kConfig, {.place = place_, .what = "is no tokenizer that can be read", .got = error.what()});
  }
  splitter_ = std::make_unique<const WordSplitter>(pattern, place_);
}

BpeTokenizer::~BpeTokenizer() = default;

std::vector<int64_t> BpeTokenizer::ids(const std::string& text, int64_t max_length) const {
  check_utf8(text);
  std::vector<int64_t> ids;
  added_tokens_.split(
      text, [&](std::string_view between) { add_words(normalize_nfc(std::string(between)), ids); },
      [&](int64_t id) { ids.push_back(id); });
  if (max_length > 0 && static_cast<int64_t>(ids.size()) > max_length) ids.resize(static_cast<size_t>(max_length));
  return ids;
}

void BpeTokenizer::add_words(const std::string& text, std::vector<int64_t>& ids) const {
  splitter_->each_word(text, [&](std::string_view word) { add_word(word, ids); });
}

void BpeTokenizer::add_word(std::string_view word, std::vector<int64_t>& ids) const {
  std::vector<std::string> parts;
  for (const char c : word) parts.push_back(byte_letters()[static_cast<unsigned char>(c)]);
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  const auto rank_of = [&](size_t i) {
    const auto found = i + 1 < parts.size() ? ranks_.find(parts[i] + " " + parts[i + 1]) : ranks_.end();
    return found == ranks_.end() ? kNever : found->second;
  };
  std::vector<int64_t> ranks;  // of each part with the next; looked up again only where a merge changed it
  for (size_t i = 0; i < parts.size(); ++i) ranks.push_back(rank_of(i));
  while (!parts.empty()) {
    const auto best = std::min_element(ranks.begin(), ranks.end());
    if (*best == kNever) break;
    const auto i = static_cast<size_t>(best - ranks.begin());
    parts[i] += parts[i + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    ranks.erase(ranks.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    ranks[i] = rank_of(i);
    if (i > 0) ranks[i - 1] = rank_of(i - 1);
  }
  for (const std::string& part : parts) {
    const auto found = vocabulary_.find(part);
    // A piece without an id is dropped, as the reference's BPE without an unknown token does.
    if (found != vocabulary_.end()) ids.push_back(found->second);
  }
}

}  // namespace orrery::text
