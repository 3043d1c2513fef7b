#include <ATen/ATen.h>

#include <array>
#include <utility>

#include "orrery/error.h"
#include "orrery/log.h"
#include "orrery/text.h"

namespace orrery {

at::Tensor embed_masked(const TextTokenizer& tokenizer, const Component& text_encoder, const std::string& prompt, int64_t length,
                        int64_t& cut) {
  const std::vector<int64_t> ids = tokenizer.ids(prompt, length);
  cut = static_cast<int64_t>(tokenizer.ids(prompt).size()) - static_cast<int64_t>(ids.size());
  const at::Tensor input_ids = at::tensor(ids, at::kLong).unsqueeze(0);
  const at::Tensor state = text_encoder.call("forward", {{"input_ids", input_ids.to(text_encoder.device())}}, {})
                               .at("last_hidden_state");  // [1,L',D]
  return at::constant_pad_nd(state, {0, 0, 0, length - state.size(1)});
}

PromptParts PromptParts::of(const ModelDescription& model, const LoadOptions& load) {
  PromptParts parts{.load = load};
  for (const ComponentDescription& part : model.components) {
    if (part.name == "text_encoder") parts.encoder = part;
    if (part.name == "tokenizer") parts.tokenizer = part;
  }
  return parts;
}

std::vector<at::Tensor> PromptParts::embed(const std::vector<std::string>& prompts, const Embed& embed) const {
  if (!encoder || !tokenizer)
    throw Error(ErrorKind::kArgument, {.place = "prompt",
                                       .what = "cannot be embedded: the checkpoint has no text encoder and tokenizer",
                                       .hint = "give its embedding: --prompt-embeds or --embeds"});
  const auto words = TextTokenizer::open(tokenizer->path);
  const auto network = load_component(*encoder, load);
  std::vector<at::Tensor> embedded;
  for (const std::string& prompt : prompts) {
    int64_t cut = 0;
    embedded.push_back(embed(*words, *network, prompt, cut));
    if (cut > 0) log(LogLevel::kWarning, "the prompt is too long: its last " + std::to_string(cut) + " tokens were cut off");
  }
  return embedded;
}

std::string collapse_white_space(const std::string& text) {
  constexpr std::array<std::pair<const char*, const char*>, 6> kEntities = {
      {{"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&#39;", "'"}, {"&nbsp;", " "}, {"&amp;", "&"}}};
  std::string plain = text;
  for (const auto& [entity, character] : kEntities)
    for (size_t at = 0; (at = plain.find(entity, at)) != std::string::npos;) plain.replace(at, std::string(entity).size(), character);
  std::string out;
  for (const char c : plain) {
    const bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
    if (!space) out += c;
    else if (!out.empty() && out.back() != ' ') out += ' ';
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace orrery
