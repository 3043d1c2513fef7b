#include <ATen/ATen.h>

#include <algorithm>

#include "orrery/error.h"
#include "orrery/text.h"
#include "text/bpe_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"

namespace orrery {

TextTokenizer::~TextTokenizer() = default;

std::unique_ptr<TextTokenizer> TextTokenizer::open(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  for (const char* name : {"spiece.model", "tokenizer.model"})
    if (fs::exists(folder / name)) return std::make_unique<text::SentencePieceTokenizer>(folder / name);
  if (fs::exists(folder / "tokenizer.json") || (fs::exists(folder / "vocab.json") && fs::exists(folder / "merges.txt")))
    return std::make_unique<text::BpeTokenizer>(folder);
  throw Error(ErrorKind::kConfig, {.place = folder.string(),
                                   .what = "holds no tokenizer",
                                   .expected = "spiece.model, tokenizer.json, or vocab.json and merges.txt"});
}

TokenizedText TextTokenizer::encode(const std::vector<std::string>& texts, int64_t max_length) const {
  TokenizedText out;
  std::vector<std::vector<int64_t>> rows;
  int64_t length = max_length;
  for (const std::string& text : texts) {
    rows.push_back(ids(text, max_length));
    if (max_length == 0) length = std::max<int64_t>(length, static_cast<int64_t>(rows.back().size()));
    if (max_length > 0 && static_cast<int64_t>(rows.back().size()) == max_length)
      out.cut += static_cast<int64_t>(ids(text).size()) - max_length;
  }
  out.input_ids = at::full({static_cast<int64_t>(rows.size()), length}, pad_id(), at::kLong);
  out.attention_mask = at::zeros_like(out.input_ids);
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto row = static_cast<int64_t>(i), count = static_cast<int64_t>(rows[i].size());
    std::copy(rows[i].begin(), rows[i].end(), out.input_ids[row].data_ptr<int64_t>());
    out.attention_mask[row].narrow(0, 0, count).fill_(1);
  }
  return out;
}

std::string chat_text(const std::vector<ChatTurn>& turns) {
  std::string text;
  for (const ChatTurn& turn : turns) text += "<|im_start|>" + turn.role + "\n" + turn.content + "<|im_end|>\n";
  return text;
}

}  // namespace orrery
