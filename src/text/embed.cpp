#include <ATen/ATen.h>

#include <array>
#include <utility>

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
