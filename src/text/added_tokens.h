#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace orrery::text {

/// Tokens that are found in a raw text as they are written (<|im_start|>, </s>, <extra_id_0>), before anything else happens
/// to it, the longest first.
class AddedTokens {
 public:
  /// Those that the folder's tokenizer_config.json lists, else its tokenizer.json; none where there are no such files.
  /// Throws Error(kConfig) where one cannot be read.
  static AddedTokens read(const std::filesystem::path& folder);
  /// Lists one more; of two with the same text, the first counts.
  void add(std::string content, int64_t id);

  /// The id of this text, if it is one of them.
  std::optional<int64_t> find(std::string_view content) const;
  /// Hands on the pieces of `text` in order: what stands between the tokens, never empty, and their ids.
  void split(std::string_view text, const std::function<void(std::string_view)>& between,
             const std::function<void(int64_t)>& token) const;

 private:
  std::vector<std::pair<std::string, int64_t>> tokens_;  // longest first
};

}  // namespace orrery::text
