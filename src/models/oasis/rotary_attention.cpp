#include "models/oasis/rotary_attention.h"

#include <ATen/ATen.h>

#include "layers/attention.h"

namespace orrery::models {

RotaryAttention::RotaryAttention(const Weights& weights, const char* qkv_name, const char* out_name, int64_t width,
                                 int64_t heads, bool qkv_bias)
    : heads_(heads),
      qkv(weights.sub(qkv_name), width, 3 * width, qkv_bias),
      out(weights.sub(out_name), width, width, /*bias=*/true) {}

RotaryAttention::Heads RotaryAttention::heads_of(const at::Tensor& tokens, const layers::Rotary& rotary) const {
  const auto parts = qkv(tokens).chunk(3, -1);
  return {layers::rotate(layers::split_heads(parts[0], heads_), rotary, layers::RotaryPairs::kNeighbours),
          layers::rotate(layers::split_heads(parts[1], heads_), rotary, layers::RotaryPairs::kNeighbours),
          layers::split_heads(parts[2], heads_)};
}

at::Tensor RotaryAttention::everywhere(const at::Tensor& tokens, const layers::Rotary& rotary) const {
  const Heads heads = heads_of(tokens, rotary);
  return out(layers::attention(heads.query, heads.key, heads.value));
}

at::Tensor RotaryAttention::causal(const at::Tensor& tokens, const layers::Rotary& rotary, const at::Tensor& past,
                                   at::Tensor* seen) const {
  const Heads heads = heads_of(tokens, rotary);
  at::Tensor keys_values = at::stack({heads.key, heads.value});  // [2,N,T,heads,head_dim]
  if (past.defined()) keys_values = at::cat({past, keys_values}, 2);
  if (seen) *seen = keys_values;
  const int64_t count = tokens.size(1), before = keys_values.size(2) - count;
  at::Tensor mask;
  if (count > 1 && before > 0) mask = at::ones({count, before + count}, tokens.options().dtype(at::kBool)).tril(before);
  return out(layers::attention(heads.query, keys_values[0], keys_values[1], mask, /*causal=*/count > 1 && before == 0));
}

layers::Rotary picture_rotary(const at::Tensor& frequencies, int64_t height, int64_t width, int64_t pairs) {
  const auto axis = [&](int64_t count) { return at::outer(at::linspace(-1, 1, count, frequencies.options()), frequencies); };
  const int64_t count = frequencies.size(0);
  at::Tensor angles = at::cat({axis(height).view({height, 1, count}).expand({height, width, count}),
                               axis(width).view({1, width, count}).expand({height, width, count})},
                              -1)
                          .flatten(0, 1);  // [h·w, 2F]
  angles = at::constant_pad_nd(angles, {0, pairs - angles.size(1)});
  return {angles.cos(), angles.sin()};
}

}  // namespace orrery::models
