#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace orrery::text {

/// The table by which a SentencePiece model rewrites characters (NFKC and white space), used as transformers uses it: by
/// grapheme clusters, while libsentencepiece itself takes the longest match wherever it begins. They differ where marks
/// stand apart from their letters: か with U+3099 stays two characters here.
class CharacterMap {
 public:
  /// Rewrites nothing.
  CharacterMap() = default;
  /// The serialised model without its table, and the table. Throws Error(kConfig) naming `place` where the model is damaged.
  static CharacterMap take(std::string& model, const std::string& place);

  /// `text`, valid UTF-8, rewritten; every kind of white space is a plain space.
  std::string operator()(std::string_view text) const;

 private:
  std::optional<std::string_view> replacement(std::string_view cluster) const;

  std::vector<uint32_t> trie_;  // darts-clone's double array; its values are offsets into the replacements
  std::string replacements_;    // each ends with a zero byte
};

}  // namespace orrery::text
