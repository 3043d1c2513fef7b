#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "orrery/text.h"

namespace orrery::text {

class SentencePieceModel;

/// T5 and UMT5: a SentencePiece model and one end-of-sequence token behind every text.
class SentencePieceTokenizer final : public TextTokenizer {
 public:
  explicit SentencePieceTokenizer(const std::filesystem::path& model);
  ~SentencePieceTokenizer() override;
  std::vector<int64_t> ids(const std::string& text, int64_t max_length) const override;
  int64_t pad_id() const override;

 private:
  std::unique_ptr<SentencePieceModel> model_;
};

}  // namespace orrery::text
