#include "text/t5_encoder_model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "layers/attention.h"
#include "layers/norm.h"
#include "orrery/error.h"

namespace orrery::text {
namespace {

// Which bucket a distance falls into: exact for short ones, logarithmic for long ones, the two directions apart.
// relative int64 [L,L] = key − query → int64 [L,L]. float32 in the reference's order, since it decides where a bucket ends.
at::Tensor bucket_of(const at::Tensor& relative, int64_t buckets, int64_t max_distance) {
  const int64_t half = buckets / 2, exact = half / 2;
  const at::Tensor forward = relative.gt(0).to(at::kLong) * half;
  const at::Tensor distance = relative.abs();
  at::Tensor large =
      exact + ((distance.to(at::kFloat) / static_cast<double>(exact)).log() /
               std::log(static_cast<double>(max_distance) / static_cast<double>(exact)) * static_cast<double>(half - exact))
                  .to(at::kLong);
  large = large.clamp_max(half - 1);
  return forward + at::where(distance.lt(exact), distance, large);
}

// "gated-gelu" → the tanh form and a gate; "relu", "gelu", "silu" → themselves.
struct FeedForwardForm {
  std::string activation;
  bool gated;
};

FeedForwardForm form_of(const Config& config) {
  const auto name = config.get<std::string>("feed_forward_proj", "relu");
  const bool gated = name.starts_with("gated-");
  std::string activation = gated ? name.substr(6) : name;
  if (name == "gated-gelu") activation = "gelu_new";
  return {config.get<std::string>("dense_act_fn", activation), config.get<bool>("is_gated_act", gated)};
}

}  // namespace

T5EncoderModel::T5EncoderModel(const Config& config, const Weights& weights)
    : num_heads_(config.get<int64_t>("num_heads", 8)),
      num_buckets_(config.get<int64_t>("relative_attention_num_buckets", 32)),
      max_distance_(config.get<int64_t>("relative_attention_max_distance", 128)),
      eps_(config.get<double>("layer_norm_epsilon", 1e-6)) {
  const bool every_layer_has_bias = config.get<std::string>("model_type", "t5") == "umt5";
  class_name_ = every_layer_has_bias ? "UMT5EncoderModel" : "T5EncoderModel";
  const auto width = config.get<int64_t>("d_model", 512), inner = config.get<int64_t>("d_ff", 2048);
  const int64_t attention = num_heads_ * config.get<int64_t>("d_kv", 64);
  const WeightForm weight_form = layers::weight_form(config);
  const auto linear = [weight_form](const Weights& from, int64_t in_features, int64_t out_features) {
    return layers::Linear(from, in_features, out_features, /*bias=*/false, weight_form);
  };
  const FeedForwardForm form = form_of(config);
  activation_ = form.activation;

  // transformers stores the tied embedding under one of two names.
  const char* embedding = weights.has("shared.weight") ? "shared.weight" : "encoder.embed_tokens.weight";
  shared_ = weights.as_stored().get(embedding, {config.get<int64_t>("vocab_size", 32128), width});
  weights.ignore("encoder.embed_tokens.weight");
  const Weights encoder = weights.sub("encoder");
  const auto count = config.get<int64_t>("num_layers", 6);
  const auto read = [=, buckets = num_buckets_, heads = num_heads_](const Weights& from, int64_t i) {
    const Weights self = from.sub("block", i).sub("layer.0"), dense = from.sub("block", i).sub("layer.1");
    const Weights attn = self.sub("SelfAttention"), ff = dense.sub("DenseReluDense");
    Block block;
    block.attention_norm = self.get("layer_norm.weight", {width});
    block.q = linear(attn.sub("q"), width, attention);
    block.k = linear(attn.sub("k"), width, attention);
    block.v = linear(attn.sub("v"), width, attention);
    block.o = linear(attn.sub("o"), attention, width);
    if (i == 0 || every_layer_has_bias)
      block.relative_attention_bias = attn.get("relative_attention_bias.weight", {buckets, heads});
    block.feed_forward_norm = dense.get("layer_norm.weight", {width});
    block.wi = linear(ff.sub(form.gated ? "wi_1" : "wi"), width, inner);
    if (form.gated) block.wi_gate = linear(ff.sub("wi_0"), width, inner);
    block.wo = linear(ff.sub("wo"), inner, width);
    return block;
  };
  blocks_ = layers::BlockStream<Block>(config, encoder, count, read);
  final_layer_norm_ = encoder.get("final_layer_norm.weight", {width});
}

at::Tensor T5EncoderModel::position_bias(const at::Tensor& table, int64_t queries, int64_t keys) const {
  const at::Tensor relative = at::arange(keys, at::kLong).unsqueeze(0) - at::arange(queries, at::kLong).unsqueeze(1);
  const at::Tensor buckets = bucket_of(relative, num_buckets_, max_distance_).to(table.device());
  return at::embedding(table, buckets).permute({2, 0, 1}).unsqueeze(0).contiguous();  // [1,heads,queries,keys]
}

T5EncoderModel::Reach T5EncoderModel::reach_of(const at::Tensor& input_ids, const at::Tensor& attention_mask) const {
  const int64_t length = input_ids.size(1);
  const Reach whole{length, length};
  if (!attention_mask.defined() || length == 0) return whole;
  const at::Tensor seen = attention_mask.ne(0);
  if (!seen.any(1).all().item<bool>()) return whole;  // who sees nothing looks at everything alike
  const int64_t keys = seen.any(0).nonzero().max().item<int64_t>() + 1;
  const int64_t tokens = std::min(length, keys + max_distance_);
  const at::Tensor rest = input_ids.narrow(1, tokens - 1, length - tokens + 1);
  if (!rest.eq(rest.narrow(1, 0, 1)).all().item<bool>()) return whole;
  return {tokens, keys};
}

at::Tensor T5EncoderModel::feed_forward(const Block& block, const at::Tensor& hidden_states) const {
  const auto activate = [this](const at::Tensor& x) {
    if (activation_ == "relu") return at::relu(x);
    if (activation_ == "gelu_new" || activation_ == "gelu_pytorch_tanh") return at::gelu(x, "tanh");
    if (activation_ == "gelu") return at::gelu(x);
    if (activation_ == "silu" || activation_ == "swish") return at::silu(x);
    throw Error(ErrorKind::kUnsupported, {.place = class_name_ + ": dense_act_fn",
                                          .what = "is not known",
                                          .expected = "relu, gelu, gelu_new or silu",
                                          .got = activation_});
  };
  if (!block.wi_gate.defined()) return block.wo(activate(block.wi(hidden_states)));
  return block.wo(activate(block.wi_gate(hidden_states)).mul_(block.wi(hidden_states)));
}

at::Tensor T5EncoderModel::forward(const at::Tensor& input_ids, const at::Tensor& attention_mask) const {
  using layers::rms_norm, layers::split_heads;
  if (input_ids.numel() > 0 && (input_ids.min().item<int64_t>() < 0 || input_ids.max().item<int64_t>() >= shared_.size(0)))
    throw Error(ErrorKind::kArgument, {.place = class_name_ + ": input_ids",
                                       .what = "are not all in the vocabulary",
                                       .expected = "0 … " + std::to_string(shared_.size(0) - 1),
                                       .got = std::to_string(input_ids.min().item<int64_t>()) + " … " +
                                              std::to_string(input_ids.max().item<int64_t>()),
                                       .hint = "is the tokenizer the one that belongs to this encoder?"});
  const int64_t length = input_ids.size(1);
  const Reach reach = reach_of(input_ids, attention_mask);
  const int64_t tokens = reach.tokens, keys = reach.keys;
  at::Tensor hidden_states = at::embedding(shared_, input_ids.narrow(1, 0, tokens)).to(at::kFloat);  // [B,tokens,D]
  at::Tensor masked;                                                                                 // [B,1,1,keys]
  if (attention_mask.defined())
    masked = attention_mask.narrow(1, 0, keys).eq(0).view({input_ids.size(0), 1, 1, keys}).to(at::kFloat) *
             std::numeric_limits<float>::lowest();

  at::Tensor bias;
  blocks_.for_each([&](const Block& block, size_t) {
    if (block.relative_attention_bias.defined()) {
      bias = position_bias(block.relative_attention_bias, tokens, keys);
      if (masked.defined()) bias = (bias + masked).clamp_min(std::numeric_limits<float>::lowest());
    }
    const at::Tensor norm = rms_norm(hidden_states, block.attention_norm, eps_), looked_at = norm.narrow(1, 0, keys);
    const at::Tensor query = split_heads(block.q(norm), num_heads_);
    // T5 does not scale its scores; the shared attention divides by √d, so that is put in beforehand.
    const double unscale = std::sqrt(static_cast<double>(query.size(-1)));
    hidden_states = hidden_states + block.o(layers::attention(query * unscale, split_heads(block.k(looked_at), num_heads_),
                                                              split_heads(block.v(looked_at), num_heads_), bias));
    hidden_states = hidden_states + feed_forward(block, rms_norm(hidden_states, block.feed_forward_norm, eps_));
  });
  hidden_states = rms_norm(hidden_states, final_layer_norm_, eps_);
  if (tokens == length) return hidden_states;
  return at::cat({hidden_states, hidden_states.narrow(1, tokens - 1, 1).expand({-1, length - tokens, -1})}, 1);
}

TensorMap T5EncoderModel::call(const std::string& function, const TensorMap& inputs, const CallOptions&) const {
  if (function != "forward")
    throw Error(ErrorKind::kArgument,
                {.place = class_name_ + "." + function, .what = "is not known", .expected = "forward"});
  const auto mask = inputs.find("attention_mask");
  return {{"last_hidden_state", forward(require_input(inputs, "input_ids", "text_encoder.forward"),
                                        mask == inputs.end() ? at::Tensor() : mask->second)}};
}

std::unique_ptr<Component> build_t5_encoder_model(const Config& config, const Weights& weights) {
  if (config.get<std::string>("_dialect", "diffusers") != "original")
    return std::make_unique<T5EncoderModel>(config, weights);
  return std::make_unique<T5EncoderModel>(config,
                                          weights.renamed(original_umt5_names(config.get<int64_t>("num_layers", 6))));
}

}  // namespace orrery::text
