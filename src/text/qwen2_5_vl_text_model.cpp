#include "text/qwen2_5_vl_text_model.h"

#include <ATen/ATen.h>

#include "layers/attention.h"
#include "layers/norm.h"
#include "orrery/error.h"

namespace orrery::text {
namespace {

// Newer folders keep the text tower's numbers in an object of their own, older ones at the top.
Config text_part(const Config& config) {
  return config.has("text_config") ? config.object("text_config") : config;
}

double rope_theta_of(const Config& text) {
  const Config parameters = text.object("rope_parameters");
  return parameters.has("rope_theta") ? parameters.require<double>("rope_theta") : text.get<double>("rope_theta", 1000000.0);
}

// The tower lies under one of these names, by the version that saved it.
Weights tower_of(const Weights& weights) {
  for (const char* prefix : {"model.language_model", "language_model.model", "language_model", "model"})
    if (weights.has_prefix(std::string(prefix) + ".layers.0")) return weights.sub(prefix);
  return weights;
}

}  // namespace

Qwen2_5_VLTextModel::Qwen2_5_VLTextModel(const Config& whole, const Weights& weights) {
  const Config config = text_part(whole);
  const Weights tower = tower_of(weights);
  const auto width = config.get<int64_t>("hidden_size", 8192), inner = config.get<int64_t>("intermediate_size", 29568);
  num_heads_ = config.get<int64_t>("num_attention_heads", 64);
  num_key_value_heads_ = config.get<int64_t>("num_key_value_heads", 8);
  head_dim_ = config.get<int64_t>("head_dim", width / num_heads_);
  eps_ = config.get<double>("rms_norm_eps", 1e-5);
  rope_theta_ = rope_theta_of(config);
  embed_tokens_ = tower.as_stored().get("embed_tokens.weight", {config.get<int64_t>("vocab_size", 152064), width});
  const auto count = config.get<int64_t>("num_hidden_layers", 80);
  const auto read = [=, heads = num_heads_, key_heads = num_key_value_heads_, dim = head_dim_](const Weights& from,
                                                                                               int64_t i) {
    const Weights layer = from.sub("layers", i), attn = layer.sub("self_attn"), mlp = layer.sub("mlp");
    return Layer{.input_layernorm = layer.get("input_layernorm.weight", {width}),
                 .post_attention_layernorm = layer.get("post_attention_layernorm.weight", {width}),
                 .q_proj = layers::Linear(attn.sub("q_proj"), width, heads * dim, /*bias=*/true),
                 .k_proj = layers::Linear(attn.sub("k_proj"), width, key_heads * dim, /*bias=*/true),
                 .v_proj = layers::Linear(attn.sub("v_proj"), width, key_heads * dim, /*bias=*/true),
                 .o_proj = layers::Linear(attn.sub("o_proj"), heads * dim, width, /*bias=*/false),
                 .gate_proj = layers::Linear(mlp.sub("gate_proj"), width, inner, /*bias=*/false),
                 .up_proj = layers::Linear(mlp.sub("up_proj"), width, inner, /*bias=*/false),
                 .down_proj = layers::Linear(mlp.sub("down_proj"), inner, width, /*bias=*/false)};
  };
  layers_ = layers::BlockStream<Layer>(whole, tower, count, read);
  norm_ = tower.get("norm.weight", {width});
  for (const char* unneeded : {"visual", "model.visual", "lm_head"})
    for (const std::string& name : weights.names())
      if (name.starts_with(std::string(unneeded) + ".")) weights.ignore(name);
}

std::vector<at::Tensor> Qwen2_5_VLTextModel::forward(const at::Tensor& input_ids, const at::Tensor& attention_mask) const {
  using layers::rms_norm, layers::rotate, layers::split_heads;
  const int64_t length = input_ids.size(1);
  const at::Tensor exponent = at::arange(0, head_dim_, 2, at::kFloat) / static_cast<double>(head_dim_);
  const at::Tensor angles = at::outer(at::arange(length, at::kFloat), at::pow(rope_theta_, exponent).reciprocal());
  const layers::Rotary rotary = layers::Rotary{angles.cos(), angles.sin()}.to(input_ids.device());
  // Token i looks at tokens 0…i that are no padding; padding rows look at what stands before them. bool [B,1,L,L]
  at::Tensor mask = at::ones({length, length}, input_ids.options().dtype(at::kBool)).tril().view({1, 1, length, length});
  if (attention_mask.defined()) mask = mask & attention_mask.ne(0).view({input_ids.size(0), 1, 1, length});

  std::vector<at::Tensor> states;
  at::Tensor hidden_states = at::embedding(embed_tokens_, input_ids).to(at::kFloat);  // [B,L,D]
  layers_.for_each([&](const Layer& layer, size_t) {
    states.push_back(hidden_states);
    at::Tensor norm = rms_norm(hidden_states, layer.input_layernorm, eps_);
    const at::Tensor query = rotate(split_heads(layer.q_proj(norm), num_heads_), rotary, layers::RotaryPairs::kHalves);
    const at::Tensor key =
        rotate(split_heads(layer.k_proj(norm), num_key_value_heads_), rotary, layers::RotaryPairs::kHalves);
    const at::Tensor value = split_heads(layer.v_proj(norm), num_key_value_heads_);
    hidden_states = hidden_states + layer.o_proj(layers::attention(query, key, value, mask));
    norm = rms_norm(hidden_states, layer.post_attention_layernorm, eps_);
    hidden_states = hidden_states + layer.down_proj(at::silu(layer.gate_proj(norm)).mul_(layer.up_proj(norm)));
  });
  states.push_back(rms_norm(hidden_states, norm_, eps_));
  return states;
}

TensorMap Qwen2_5_VLTextModel::call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const {
  if (function != "forward")
    throw Error(ErrorKind::kArgument,
                {.place = class_name() + "." + function, .what = "is not known", .expected = "forward"});
  const auto mask = inputs.find("attention_mask");
  const auto states = forward(require_input(inputs, "input_ids", "text_encoder.forward"),
                              mask == inputs.end() ? at::Tensor() : mask->second);
  TensorMap outputs{{"last_hidden_state", states.back()}};
  if (options.all_layers)
    for (size_t i = 0; i < states.size(); ++i) outputs["hidden_states." + std::to_string(i)] = states[i];
  return outputs;
}

std::unique_ptr<Component> build_qwen2_5_vl_text_model(const Config& config, const Weights& weights) {
  return std::make_unique<Qwen2_5_VLTextModel>(config, weights);
}

}  // namespace orrery::text
