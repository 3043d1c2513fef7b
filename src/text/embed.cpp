#include <ATen/ATen.h>

#include <array>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "orrery/error.h"
#include "orrery/log.h"
#include "orrery/text.h"
#include "text/utf8.h"

namespace orrery {
namespace {

// HTML's entities by number, and the names that text has: the reference knows two thousand.
std::string without_entities(const std::string& text) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kNames = {
      {{"lt", "<"}, {"gt", ">"}, {"quot", "\""}, {"nbsp", " "}, {"amp", "&"}}};
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text[at] == '&' ? text.find(';', at) : std::string::npos;
    const std::string_view name =
        end == std::string::npos ? std::string_view() : std::string_view(text).substr(at + 1, end - at - 1);
    std::optional<std::string> character;
    if (name.starts_with('#')) {
      const bool hex = name.size() > 1 && (name[1] == 'x' || name[1] == 'X');
      const std::string_view digits = name.substr(hex ? 2 : 1);
      int32_t code = 0;
      const auto [read, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, hex ? 16 : 10);
      const bool number = error == std::errc() && read == digits.data() + digits.size() && !digits.starts_with('-');
      if (number) character = text::utf8_of(code == 0 ? 0xFFFD : code);
    }
    for (const auto& [known, meant] : kNames)
      if (name == known) character = meant;
    out += character ? *character : std::string(1, text[at]);
    at = character ? end + 1 : at + 1;
  }
  return out;
}

}  // namespace

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
  const char* lacks = encoder ? "tokenizer" : tokenizer ? "text_encoder" : "text_encoder and no tokenizer";
  if (!encoder || !tokenizer)
    throw Error(ErrorKind::kArgument, {.place = "prompt",
                                       .what = std::string("cannot be embedded: the checkpoint has no ") + lacks,
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
  text::check_utf8(text);
  const std::string plain = without_entities(without_entities(text));  // the reference does so twice
  std::string out;
  bool space = false;  // seen since the last character
  for (size_t at = 0; at < plain.size();) {
    const auto [code, size] = text::first_character(std::string_view(plain).substr(at));
    if (text::is_white_space(code)) {
      space = true;
    } else {
      if (space && !out.empty()) out += ' ';
      space = false;
      out.append(plain, at, size);
    }
    at += size;
  }
  return out;
}

}  // namespace orrery
