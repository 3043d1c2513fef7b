#include "text/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>

#include "orrery/error.h"
#include "text/utf8.h"

namespace orrery::text {

SentencePieceTokenizer::SentencePieceTokenizer(const std::filesystem::path& model)
    : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
  const auto status = processor_->Load(model.string());
  if (!status.ok())
    throw Error(ErrorKind::kConfig, {.place = model.string(),
                                     .what = "is no SentencePiece model (" + std::string(status.message()) + ")",
                                     .hint = "is the download complete?"});
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

std::vector<int64_t> SentencePieceTokenizer::ids(const std::string& text, int64_t max_length) const {
  check_utf8(text);
  std::vector<int> pieces;
  const auto status = processor_->Encode(text, &pieces);
  if (!status.ok())
    throw Error(ErrorKind::kArgument, {.place = "text", .what = "cannot be tokenized (" + std::string(status.message()) + ")"});
  std::vector<int64_t> ids(pieces.begin(), pieces.end());
  // The end token always stays: the text in front of it is what gets cut.
  if (max_length > 0) ids.resize(std::min<size_t>(ids.size(), static_cast<size_t>(max_length) - 1));
  ids.push_back(processor_->eos_id());
  return ids;
}

int64_t SentencePieceTokenizer::pad_id() const { return std::max(0, processor_->pad_id()); }

}  // namespace orrery::text
