#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orrery/component.h"
#include "orrery/export.h"
#include "orrery/load.h"

namespace orrery {

/// Token ids of several texts, padded on the right to one length L.
struct TokenizedText {
  at::Tensor input_ids;       ///< int64 [B,L]
  at::Tensor attention_mask;  ///< int64 [B,L], 1 where a token stands, 0 where padding does
  int64_t cut = 0;            ///< tokens that did not fit and were left away, over all texts
};

/// Text to token ids and nothing else. Const, shareable between threads.
class ORRERY_API TextTokenizer {
 public:
  virtual ~TextTokenizer();

  /// Opens a folder as transformers saves it: spiece.model (T5, UMT5), or tokenizer.json / vocab.json + merges.txt with a byte-level
  /// BPE (Qwen). Throws Error(kConfig) when neither is there or one is damaged.
  static std::unique_ptr<TextTokenizer> open(const std::filesystem::path& folder);

  /// The ids of one text with the special tokens the reference puts around it; at most `max_length`, 0: no limit.
  /// Text that is no UTF-8 is an Error(kArgument).
  virtual std::vector<int64_t> ids(const std::string& text, int64_t max_length = 0) const = 0;
  /// The id that fills rows up.
  virtual int64_t pad_id() const = 0;

  /// Several texts: cut and padded to `max_length`, or with 0 padded to the longest.
  TokenizedText encode(const std::vector<std::string>& texts, int64_t max_length = 0) const;
};

/// A conversation's turn for chat models.
struct ChatTurn {
  std::string role;  ///< "system", "user", "assistant"
  std::string content;
};

/// The turns as the Qwen family writes them: "<|im_start|>role\ncontent<|im_end|>\n" each.
ORRERY_API std::string chat_text(const std::vector<ChatTurn>& turns);

/// The last hidden state of an encoder that masks padding (T5, UMT5), zero from the last token on: float [1,length,D].
/// Only the real tokens are computed, since no row that is kept depends on padding. `cut` tells how many did not fit.
ORRERY_API at::Tensor embed_masked(const TextTokenizer& tokenizer, const Component& text_encoder, const std::string& prompt,
                                   int64_t length, int64_t& cut);

/// The text encoder of a model and the tokenizer of its words, both loaded when a prompt comes and released again.
struct ORRERY_API PromptParts {
  std::optional<ComponentDescription> encoder, tokenizer;
  LoadOptions load;

  /// The parts of these names, where the model has them.
  static PromptParts of(const ModelDescription& model, const LoadOptions& load);
  /// How a family makes one prompt an embedding float [1,L,D]; the last argument tells how many tokens did not fit.
  using Embed =
      std::function<at::Tensor(const TextTokenizer& tokenizer, const Component& encoder, const std::string& prompt, int64_t&)>;
  /// One embedding a prompt, with a warning where words were cut off. Throws Error(kArgument) where a part is not there.
  std::vector<at::Tensor> embed(const std::vector<std::string>& prompts, const Embed& embed) const;
};

/// `text` with the common HTML entities replaced, every run of white space as one space, and none at the ends.
ORRERY_API std::string collapse_white_space(const std::string& text);

}  // namespace orrery
