#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "orrery/text.h"
#include "text/added_tokens.h"

namespace orrery::text {

/// The regular expression that cuts text into words before merging (PCRE2, Unicode); hidden behind a pointer.
class WordSplitter;

/// Byte-level BPE of the Qwen family: NFC, words by regular expression, bytes as printable letters, merges by rank. Added tokens
/// (<|im_start|>, …) are found in the raw text first. Nothing is put around a text.
class BpeTokenizer final : public TextTokenizer {
 public:
  explicit BpeTokenizer(const std::filesystem::path& folder);
  ~BpeTokenizer() override;
  std::vector<int64_t> ids(const std::string& text, int64_t max_length) const override;
  int64_t pad_id() const override { return pad_id_; }

 private:
  void add_words(const std::string& text, std::vector<int64_t>& ids) const;
  void add_word(std::string_view word, std::vector<int64_t>& ids) const;

  std::string place_;
  std::unordered_map<std::string, int64_t> vocabulary_;
  std::unordered_map<std::string, int64_t> ranks_;  // "left right" → place in the list of merges
  AddedTokens added_tokens_;
  std::unique_ptr<const WordSplitter> splitter_;
  int64_t pad_id_ = 0;
};

}  // namespace orrery::text
