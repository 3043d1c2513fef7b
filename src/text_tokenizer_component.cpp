#include "text_tokenizer_component.h"

#include <utility>

#include "orrery/error.h"
#include "orrery/text.h"

namespace orrery {
namespace {

class TextTokenizerComponent final : public Component {
 public:
  TextTokenizerComponent(std::unique_ptr<TextTokenizer> tokenizer, std::string class_name)
      : tokenizer_(std::move(tokenizer)), class_name_(std::move(class_name)) {}

  std::string class_name() const override { return class_name_; }

  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override {
    const std::string place = "tokenizer." + function;
    if (function != "encode")
      throw Error(ErrorKind::kArgument,
                  {.place = place, .what = "is no function of " + class_name_, .expected = "tokenizer.encode"});
    if (!inputs.empty() || options.texts.empty())
      throw Error(ErrorKind::kArgument, {.place = place, .what = "takes texts (--text), and no tensors"});
    const TokenizedText tokens = tokenizer_->encode(options.texts, options.max_length.value_or(0));
    return {{"input_ids", tokens.input_ids}, {"attention_mask", tokens.attention_mask}};
  }

 private:
  std::unique_ptr<TextTokenizer> tokenizer_;
  std::string class_name_;
};

}  // namespace

bool is_text_tokenizer(const std::filesystem::path& folder) {
  for (const char* file : {"tokenizer_config.json", "spiece.model", "tokenizer.json", "vocab.json"})
    if (std::filesystem::exists(folder / file)) return true;
  return false;
}

std::unique_ptr<Component> load_text_tokenizer(const std::filesystem::path& folder, std::string class_name) {
  return std::make_unique<TextTokenizerComponent>(TextTokenizer::open(folder), std::move(class_name));
}

}  // namespace orrery
