#include "models/cosmos/cosmos_transformer_block.h"

#include <ATen/ATen.h>

#include "layers/attention.h"
#include "layers/norm.h"

namespace orrery::models {
namespace {

constexpr double kNormEps = 1e-6;
constexpr double kImageQkNormEps = 1e-6;

// A product of the blocks, in the form in memory that was asked for.
layers::Linear linear(const Weights& weights, const CosmosBlockConfig& config, int64_t in_features, int64_t out_features) {
  return layers::Linear(weights, in_features, out_features, /*bias=*/false, config.weight_form);
}

}  // namespace

CosmosAdaLayerNormZero::CosmosAdaLayerNormZero(const Weights& weights, const CosmosBlockConfig& config, int64_t parts)
    : parts_(parts),
      linear_1(weights.sub("linear_1"), config.width(), config.adaln_lora_dim, /*bias=*/false),
      linear_2(weights.sub("linear_2"), config.adaln_lora_dim, parts * config.width(), /*bias=*/false) {}

CosmosAdaLayerNormZero::Modulation CosmosAdaLayerNormZero::modulation(const CosmosTimeEmbedding& time) const {
  at::Tensor embedded = linear_2(linear_1(at::silu(time.embedded_timestep)));  // [B,K,parts·D]
  embedded = embedded + time.temb.narrow(-1, 0, embedded.size(-1));
  const auto parts = embedded.chunk(parts_, -1);
  return {parts[0], parts[1], parts_ == 3 ? parts[2] : at::Tensor()};
}

at::Tensor CosmosAdaLayerNormZero::apply(const at::Tensor& hidden_states, const Modulation& modulation) {
  return layers::modulated_norm(hidden_states, kNormEps, modulation.shift, modulation.scale);
}

CosmosAttention::CosmosAttention(const Weights& weights, const CosmosBlockConfig& config, int64_t context_dim,
                                 bool img_context)
    : heads_(config.num_attention_heads),
      qk_norm_eps_(config.qk_norm_eps),
      form_(config.attention_form),
      to_q(linear(weights.sub("to_q"), config, config.width(), config.width())),
      to_k(linear(weights.sub("to_k"), config, context_dim, config.width())),
      to_v(linear(weights.sub("to_v"), config, context_dim, config.width())),
      to_out(linear(weights.sub("to_out.0"), config, config.width(), config.width())),
      norm_q(weights.get("norm_q.weight", {config.attention_head_dim})),
      norm_k(weights.get("norm_k.weight", {config.attention_head_dim})) {
  if (!img_context) return;
  q_img = linear(weights.sub("q_img"), config, config.width(), config.width());
  k_img = linear(weights.sub("k_img"), config, config.width(), config.width());
  v_img = linear(weights.sub("v_img"), config, config.width(), config.width());
  q_img_norm = weights.get("q_img_norm.weight", {config.attention_head_dim});
  k_img_norm = weights.get("k_img_norm.weight", {config.attention_head_dim});
}

at::Tensor CosmosAttention::self_attention(const at::Tensor& hidden_states, const layers::Rotary& rotary,
                                           const at::Tensor& past, at::Tensor* own) const {
  using layers::norm_and_rotate, layers::split_heads;
  constexpr auto kPairs = layers::RotaryPairs::kHalves;
  // [B,N,D] → [B,N,heads,head_dim]
  at::Tensor key = norm_and_rotate(split_heads(to_k(hidden_states), heads_), norm_k, false, qk_norm_eps_, rotary, kPairs);
  at::Tensor value = split_heads(to_v(hidden_states), heads_);
  if (own) *own = at::stack({key, value});
  if (past.defined()) {
    key = at::cat({past[0], key}, 1);
    value = at::cat({past[1], value}, 1);
  }
  const at::Tensor query =
      norm_and_rotate(split_heads(to_q(hidden_states), heads_), norm_q, false, qk_norm_eps_, rotary, kPairs);
  return to_out(layers::attention(query, key, value, form_));
}

CosmosCrossKeys CosmosAttention::keys(const at::Tensor& text, const at::Tensor& image) const {
  using layers::rms_norm, layers::split_heads;
  CosmosCrossKeys keys;
  keys.key = rms_norm(split_heads(to_k(text), heads_), norm_k, qk_norm_eps_);
  keys.value = split_heads(to_v(text), heads_);
  if (image.defined() && k_img.defined()) {
    keys.image_key = rms_norm(split_heads(k_img(image), heads_), k_img_norm, kImageQkNormEps);
    keys.image_value = split_heads(v_img(image), heads_);
  }
  return keys;
}

at::Tensor CosmosAttention::cross_attention(const at::Tensor& hidden_states, const CosmosCrossKeys& keys,
                                            const at::Tensor& mask) const {
  using layers::rms_norm, layers::split_heads;
  const at::Tensor query = rms_norm(split_heads(to_q(hidden_states), heads_), norm_q, qk_norm_eps_);
  at::Tensor attended = layers::attention(query, keys.key, keys.value, mask);
  if (keys.image_key.defined()) {
    const at::Tensor image_query = rms_norm(split_heads(q_img(hidden_states), heads_), q_img_norm, kImageQkNormEps);
    attended = attended + layers::attention(image_query, keys.image_key, keys.image_value);
  }
  return to_out(attended);
}

CosmosTransformerBlock::CosmosTransformerBlock(const Weights& weights, const CosmosBlockConfig& config)
    : norm1(weights.sub("norm1"), config, 3),
      norm2(weights.sub("norm2"), config, 3),
      norm3(weights.sub("norm3"), config, 3),
      attn1(weights.sub("attn1"), config, config.width(), /*img_context=*/false),
      attn2(weights.sub("attn2"), config, config.text_embed_dim, config.img_context) {
  const auto inner = static_cast<int64_t>(static_cast<double>(config.width()) * config.mlp_ratio);
  ff_in = linear(weights.sub("ff.net.0.proj"), config, config.width(), inner);
  ff_out = linear(weights.sub("ff.net.2"), config, inner, config.width());
}

at::Tensor CosmosTransformerBlock::forward(at::Tensor hidden_states, const CosmosCrossKeys& keys,
                                           const CosmosTimeEmbedding& time, const layers::Rotary& rotary,
                                           const at::Tensor& extra_pos_emb, const at::Tensor& mask, const at::Tensor& past,
                                           at::Tensor* own) const {
  using Norm = CosmosAdaLayerNormZero;
  if (extra_pos_emb.defined()) hidden_states = hidden_states + extra_pos_emb;

  auto modulation = norm1.modulation(time);
  at::Tensor update = attn1.self_attention(Norm::apply(hidden_states, modulation), rotary, past, own);
  hidden_states = layers::gated_residual(hidden_states, update, modulation.gate);

  modulation = norm2.modulation(time);
  update = attn2.cross_attention(Norm::apply(hidden_states, modulation), keys, mask);
  hidden_states = layers::gated_residual(hidden_states, update, modulation.gate);

  modulation = norm3.modulation(time);
  at::Tensor inner = ff_in(Norm::apply(hidden_states, modulation));
  update = ff_out(at::gelu_(inner));
  return layers::gated_residual(hidden_states, update, modulation.gate);
}

}  // namespace orrery::models
