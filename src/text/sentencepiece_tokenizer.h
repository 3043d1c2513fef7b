#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "orrery/text.h"
#include "text/added_tokens.h"
#include "text/character_map.h"

namespace orrery::text {

class SentencePieceModel;

/// T5 and UMT5: a SentencePiece model, the added tokens that lie beside it (</s>, <extra_id_0>, …), and one end-of-sequence
/// token behind every text.
class SentencePieceTokenizer final : public TextTokenizer {
 public:
  explicit SentencePieceTokenizer(const std::filesystem::path& model);
  ~SentencePieceTokenizer() override;
  std::vector<int64_t> ids(const std::string& text, int64_t max_length) const override;
  int64_t pad_id() const override;

 private:
  CharacterMap characters_;
  AddedTokens added_tokens_;
  std::unique_ptr<SentencePieceModel> model_;
};

}  // namespace orrery::text
