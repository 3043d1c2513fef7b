#include "layers/attention.h"

#include <ATen/ATen.h>

#include "layers/linear.h"
#include "ops/int8_attention.h"

namespace orrery::layers {

at::Tensor split_heads(const at::Tensor& tokens, int64_t heads) {
  return tokens.unflatten(-1, {heads, -1});
}

at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const at::Tensor& mask,
                     bool causal) {
  const int64_t repeat = query.size(2) / key.size(2);
  const auto heads_first = [&](const at::Tensor& x) {
    const at::Tensor y = x.transpose(1, 2);  // [B,heads,N,D]
    return y.size(1) == query.size(2) ? y : y.repeat_interleave(repeat, 1);
  };
  const auto given = mask.defined() ? std::optional<at::Tensor>(mask) : std::nullopt;
  const at::Tensor out =
      at::scaled_dot_product_attention(heads_first(query), heads_first(key), heads_first(value), given, 0.0, causal);
  return out.transpose(1, 2).flatten(2);  // [B,N,heads·D]
}

at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, AttentionForm form) {
  if (form == AttentionForm::kExact) return attention(query, key, value);
  const auto narrow = [](const at::Tensor& x) {
    return x.is_cpu() || x.scalar_type() != at::kFloat ? x : x.to(at::kBFloat16);
  };
  return ops::int8_attention(narrow(query), narrow(key), narrow(value)).flatten(2).to(query.scalar_type());
}

AttentionForm attention_form(const Config& config) {
  return static_cast<AttentionForm>(config.get<int64_t>("attention_in_bits", static_cast<int64_t>(AttentionForm::kExact)));
}

Config in_forms_of(const Config& config, const Config& asked) {
  return config.with("weights_in_memory", static_cast<int64_t>(weight_form(asked)))
      .with("attention_in_bits", static_cast<int64_t>(attention_form(asked)));
}

}  // namespace orrery::layers
