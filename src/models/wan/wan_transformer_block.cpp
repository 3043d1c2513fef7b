#include <ATen/ATen.h>

#include "layers/attention.h"
#include "layers/norm.h"
#include "layers/sinusoid.h"
#include "models/wan/wan_transformer_3d_model.h"
#include "ops/head_norm.h"

namespace orrery::models {
namespace {

constexpr double kImageNormEps = 1e-5;  // the default of the reference's FP32LayerNorm

// A product of the blocks, in the form in memory that was asked for.
layers::Linear linear(const Weights& weights, const WanTransformerConfig& config, int64_t in_features,
                      int64_t out_features) {
  return layers::Linear(weights, in_features, out_features, /*bias=*/true, config.weight_form);
}

}  // namespace

WanAttention::WanAttention(const Weights& weights, const WanTransformerConfig& config, bool added_kv)
    : heads_(config.num_attention_heads),
      eps_(config.eps),
      form_(config.attention_form),
      to_q(linear(weights.sub("to_q"), config, config.width(), config.width())),
      to_k(linear(weights.sub("to_k"), config, config.width(), config.width())),
      to_v(linear(weights.sub("to_v"), config, config.width(), config.width())),
      to_out(linear(weights.sub("to_out.0"), config, config.width(), config.width())),
      norm_q(weights.get("norm_q.weight", {config.width()})),
      norm_k(weights.get("norm_k.weight", {config.width()})) {
  if (!added_kv) return;
  add_k_proj = linear(weights.sub("add_k_proj"), config, config.added_kv_proj_dim, config.width());
  add_v_proj = linear(weights.sub("add_v_proj"), config, config.added_kv_proj_dim, config.width());
  norm_added_k = weights.get("norm_added_k.weight", {config.width()});
  weights.ignore("norm_added_q.weight");  // some checkpoints hold it; the network has no use for it
}

at::Tensor WanAttention::self_attention(const at::Tensor& hidden_states, const layers::Rotary& rotary,
                                        const at::Tensor& past, at::Tensor* own) const {
  using layers::norm_and_rotate, layers::split_heads;
  constexpr auto kPairs = layers::RotaryPairs::kNeighbours;
  // [B,N,D] → [B,N,heads,head_dim]
  at::Tensor key = norm_and_rotate(split_heads(to_k(hidden_states), heads_), norm_k, true, eps_, rotary, kPairs);
  at::Tensor value = split_heads(to_v(hidden_states), heads_);
  if (own) *own = at::stack({key, value});
  if (past.defined()) {
    key = at::cat({past[0], key}, 1);
    value = at::cat({past[1], value}, 1);
  }
  const at::Tensor query = norm_and_rotate(split_heads(to_q(hidden_states), heads_), norm_q, true, eps_, rotary, kPairs);
  return to_out(layers::attention(query, key, value, form_));
}

WanCrossKeys WanAttention::keys(const at::Tensor& text, const at::Tensor& image) const {
  using layers::rms_norm, layers::split_heads;
  WanCrossKeys keys;
  keys.key = split_heads(rms_norm(to_k(text), norm_k, eps_), heads_);
  keys.value = split_heads(to_v(text), heads_);
  if (image.defined() && add_k_proj.defined()) {
    keys.image_key = split_heads(rms_norm(add_k_proj(image), norm_added_k, eps_), heads_);
    keys.image_value = split_heads(add_v_proj(image), heads_);
  }
  return keys;
}

at::Tensor WanAttention::cross_attention(const at::Tensor& hidden_states, const WanCrossKeys& keys) const {
  const at::Tensor query = layers::split_heads(layers::rms_norm(to_q(hidden_states), norm_q, eps_), heads_);
  at::Tensor attended = layers::attention(query, keys.key, keys.value);
  if (keys.image_key.defined()) attended = attended + layers::attention(query, keys.image_key, keys.image_value);
  return to_out(attended);
}

WanTransformerBlock::WanTransformerBlock(const Weights& weights, const WanTransformerConfig& config)
    : eps_(config.eps),
      attn1(weights.sub("attn1"), config, /*added_kv=*/false),
      attn2(weights.sub("attn2"), config, /*added_kv=*/config.added_kv_proj_dim > 0),
      ffn_in(linear(weights.sub("ffn.net.0.proj"), config, config.width(), config.ffn_dim)),
      ffn_out(linear(weights.sub("ffn.net.2"), config, config.ffn_dim, config.width())),
      scale_shift_table(weights.get("scale_shift_table", {1, 6, config.width()})) {
  if (!config.cross_attn_norm) return;
  norm2_weight = weights.get("norm2.weight", {config.width()});
  norm2_bias = weights.get("norm2.bias", {config.width()});
}

at::Tensor WanTransformerBlock::forward(at::Tensor hidden_states, const WanCrossKeys& keys, const at::Tensor& timestep_proj,
                                        const layers::Rotary& rotary, WanMemory* memory, size_t index) const {
  // shift, scale, gate of attention, then of the feed-forward: [B,K,D] each
  const auto modulation = (timestep_proj + scale_shift_table).unbind(2);

  at::Tensor norm = layers::modulated_norm(hidden_states, eps_, modulation[0], modulation[1]);
  const at::Tensor past = memory && !memory->past.empty() ? memory->past[index] : at::Tensor();
  at::Tensor attended = attn1.self_attention(norm, rotary, past, memory ? &memory->own[index] : nullptr);
  hidden_states = layers::gated_residual(hidden_states, std::move(attended), modulation[2]);

  norm = norm2_weight.defined() ? layers::layer_norm(hidden_states, eps_, norm2_weight, norm2_bias) : hidden_states;
  hidden_states = hidden_states + attn2.cross_attention(norm, keys);
  if (memory && memory->inject) hidden_states = memory->inject(index, hidden_states);

  norm = layers::modulated_norm(hidden_states, eps_, modulation[3], modulation[4]);
  const at::Tensor inner = ffn_in(norm);
  return layers::gated_residual(hidden_states, ffn_out(ops::gelu_tanh(inner)), modulation[5]);
}

WanTimeTextImageEmbedding::WanTimeTextImageEmbedding(const Weights& weights, const WanTransformerConfig& config)
    : freq_dim_(config.freq_dim),
      time_linear_1(weights.sub("time_embedder.linear_1"), config.freq_dim, config.width(), /*bias=*/true),
      time_linear_2(weights.sub("time_embedder.linear_2"), config.width(), config.width(), /*bias=*/true),
      time_proj(weights.sub("time_proj"), config.width(), 6 * config.width(), /*bias=*/true) {
  if (config.text_dim > 0) {
    text_linear_1 = layers::Linear(weights.sub("text_embedder.linear_1"), config.text_dim, config.width(), /*bias=*/true);
    text_linear_2 = layers::Linear(weights.sub("text_embedder.linear_2"), config.width(), config.width(), /*bias=*/true);
  }
  if (config.image_dim == 0) return;
  const Weights image = weights.sub("image_embedder");
  if (config.pos_embed_seq_len > 0)
    image_pos_embed = image.get("pos_embed", {1, config.pos_embed_seq_len, config.image_dim});
  image_norm1_weight = image.get("norm1.weight", {config.image_dim});
  image_norm1_bias = image.get("norm1.bias", {config.image_dim});
  image_ff_in = layers::Linear(image.sub("ff.net.0.proj"), config.image_dim, config.image_dim, /*bias=*/true);
  image_ff_out = layers::Linear(image.sub("ff.net.2"), config.image_dim, config.width(), /*bias=*/true);
  image_norm2_weight = image.get("norm2.weight", {config.width()});
  image_norm2_bias = image.get("norm2.bias", {config.width()});
}

at::Tensor WanTimeTextImageEmbedding::time(const at::Tensor& times) const {
  return time_linear_2(at::silu(time_linear_1(layers::sinusoidal_embedding(times, freq_dim_))));
}

at::Tensor WanTimeTextImageEmbedding::modulation(const at::Tensor& temb) const {
  return time_proj(at::silu(temb)).unflatten(-1, {6, -1});
}

at::Tensor WanTimeTextImageEmbedding::text(const at::Tensor& embeddings) const {
  return text_linear_2(at::gelu(text_linear_1(embeddings), "tanh"));
}

at::Tensor WanTimeTextImageEmbedding::image(const at::Tensor& embeddings) const {
  at::Tensor tokens = embeddings;
  // First and last picture come as two rows of the batch and become one sequence. [2B,L,D'] → [B,2L,D']
  if (image_pos_embed.defined()) tokens = tokens.reshape({-1, 2 * tokens.size(1), tokens.size(2)}) + image_pos_embed;
  tokens = layers::layer_norm(tokens, kImageNormEps, image_norm1_weight, image_norm1_bias);
  tokens = image_ff_out(at::gelu(image_ff_in(tokens)));
  return layers::layer_norm(tokens, kImageNormEps, image_norm2_weight, image_norm2_bias);
}

}  // namespace orrery::models
