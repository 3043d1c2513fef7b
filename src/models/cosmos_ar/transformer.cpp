#include "models/cosmos_ar/transformer.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <utility>

#include "layers/attention.h"
#include "layers/norm.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

// Tokens that go through the network at once: bounds the memory of the attention scores of a long prompt.
constexpr int64_t kPrefill = 256;

std::string sizes_of(const at::Tensor& tensor) {
  std::string text = "[";
  for (const int64_t size : tensor.sizes()) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

// More rows than tokens where the table was padded after new tokens came in.
int64_t embedding_rows(const Weights& weights, const CosmosArConfig& config) {
  const int64_t least = config.vocab_size + (config.text_to_video ? 1 : 0);
  const auto shape = weights.shape("tok_embeddings.weight");
  return shape && shape->size() == 2 ? std::max((*shape)[0], least) : least;
}

}  // namespace

ArNorm::ArNorm(const Weights& weights, const std::string& type, int64_t dim, double eps)
    : rms_(type.ends_with("rmsnorm")), eps_(eps) {
  if (type != "np_layernorm") weight_ = weights.get("weight", {dim});
}

at::Tensor ArNorm::operator()(const at::Tensor& x) const {
  return rms_ ? layers::rms_norm(x, weight_, eps_) : layers::layer_norm(x, eps_, weight_);
}

ArAttention::ArAttention(const Weights& weights, const CosmosArConfig& config, int64_t context_dim)
    : heads_(config.n_heads), groups_(config.n_kv_heads) {
  const int64_t queries = heads_ * config.head_dim, keys = groups_ * config.head_dim;
  const auto linear = [&](const char* name, int64_t in, int64_t out, WeightForm form) {
    return layers::Linear(weights.sub(name), in, out, false, form);
  };
  // In int8 the values' and the output's products would make two fifths of the error of the logits, with a tenth of the
  // weights.
  const WeightForm form = config.weight_form,
                   finer = form == WeightForm::kInt8 || form == WeightForm::kFloat8 ? WeightForm::kBFloat16 : form;
  if (weights.has("wqkv.weight")) {
    wqkv_ = linear("wqkv", config.dim, queries + 2 * keys, form);
  } else {
    wq_ = linear("wq", config.dim, queries, form);
    wk_ = linear("wk", context_dim, keys, form);
    wv_ = linear("wv", context_dim, keys, finer);
  }
  wo_ = linear("wo", queries, config.dim, finer);
  if (!config.use_qk_normalization) return;
  // The reference does not hand its norm_type and norm_eps on to these two.
  q_norm_.emplace(weights.sub("q_norm"), "rmsnorm", config.head_dim, 1e-5);
  k_norm_.emplace(weights.sub("k_norm"), "rmsnorm", config.head_dim, 1e-5);
}

at::Tensor ArAttention::operator()(const at::Tensor& x, const ArRotary& rotary, KvCache& cache) const {
  const auto projected = [&]() -> std::vector<at::Tensor> {
    if (!wqkv_) return {wq_(x), wk_(x), wv_(x)};
    const auto qkv = (*wqkv_)(x);
    const int64_t head = qkv.size(-1) / (heads_ + 2 * groups_);
    return qkv.split_with_sizes({heads_ * head, groups_ * head, groups_ * head}, -1);
  }();
  auto q = layers::split_heads(projected[0], heads_), k = layers::split_heads(projected[1], groups_);  // [B,n,heads,D']
  if (q_norm_) {
    q = (*q_norm_)(q);
    k = (*k_norm_)(k);
  }
  cache.append(rotary(k), layers::split_heads(projected[2], groups_));
  return wo_(cache.attend(rotary(q)));
}

at::Tensor ArAttention::cross(const at::Tensor& x, const at::Tensor& keys, const at::Tensor& values) const {
  auto q = layers::split_heads(wq_(x), heads_);
  if (q_norm_) q = (*q_norm_)(q);
  return wo_(layers::attention(q, keys, values));
}

std::pair<at::Tensor, at::Tensor> ArAttention::keys_values(const at::Tensor& text) const {
  auto k = layers::split_heads(wk_(text), groups_);
  if (k_norm_) k = (*k_norm_)(k);
  return {k, layers::split_heads(wv_(text), groups_)};
}

ArMlp::ArMlp(const Weights& weights, const CosmosArConfig& config) {
  const int64_t dim = config.dim, hidden = config.ffn_hidden_size;
  w1_ = layers::Linear(weights.sub("w1"), dim, hidden, false, config.weight_form);
  w2_ = layers::Linear(weights.sub("w2"), hidden, dim, false, config.weight_form);
  w3_ = layers::Linear(weights.sub("w3"), dim, hidden, false, config.weight_form);
}

at::Tensor ArMlp::operator()(const at::Tensor& x) const {
  return w2_(at::silu(w1_(x)).mul_(w3_(x)));
}

ArBlock::ArBlock(const Weights& weights, const CosmosArConfig& config, int64_t layer)
    : attention_norm_(weights.sub("attention_norm"), config.norm_type, config.dim, config.norm_eps),
      attention_(weights.sub("attention"), config, config.dim),
      ffn_norm_(weights.sub("ffn_norm"), config.norm_type, config.dim, config.norm_eps),
      feed_forward_(weights.sub("feed_forward"), config) {
  if (!config.has_cross_attention(layer)) return;
  cross_attention_norm_.emplace(weights.sub("cross_attention_norm"), config.norm_type, config.dim, config.norm_eps);
  cross_attention_.emplace(weights.sub("cross_attention"), config, config.context_dim);
}

at::Tensor ArBlock::operator()(const at::Tensor& x, const ArRotary& rotary, KvCache& cache, const at::Tensor& text_keys,
                               const at::Tensor& text_values) const {
  auto h = x + attention_(attention_norm_(x), rotary, cache);
  if (cross_attention_) h = h + cross_attention_->cross((*cross_attention_norm_)(h), text_keys, text_values);
  return h + feed_forward_(ffn_norm_(h));
}

struct CosmosArTransformer::ArContext final : Context {
  std::vector<KvCache> caches;                          // one a layer
  std::vector<std::pair<at::Tensor, at::Tensor>> text;  // keys and values, undefined where a layer has no cross-attention
  int64_t text_batch = 0;

  int64_t length() const override { return caches.front().length(); }
  std::unique_ptr<Context> fork() const override { return std::make_unique<ArContext>(*this); }
  std::unique_ptr<Context> select(const at::Tensor& rows) const override {
    auto other = std::make_unique<ArContext>();
    for (const KvCache& cache : caches) other->caches.push_back(cache.select(rows));
    for (const auto& [keys, values] : text)
      other->text.push_back(keys.defined() ? std::pair(keys.index_select(0, rows), values.index_select(0, rows))
                                           : std::pair<at::Tensor, at::Tensor>());
    other->text_batch = text_batch > 0 ? rows.numel() : 0;
    return other;
  }
};

CosmosArTransformer::CosmosArTransformer(const Config& config, const Weights& weights)
    : config_(CosmosArConfig::from(config)),
      dtype_(weights.dtype()),
      tok_embeddings_(weights.as_stored().get("tok_embeddings.weight", {embedding_rows(weights, config_), config_.dim})),
      norm_(weights.sub("norm"), config_.norm_type, config_.dim, config_.norm_eps),
      output_(weights.sub("output"), config_.dim, config_.vocab_size, false, config_.weight_form),
      rotary_(rotary_table(config_)),
      abs_pos_emb_(absolute_table(config_)) {
  for (int64_t layer = 0; layer < config_.n_layers; ++layer)
    layers_.emplace_back(weights.sub("layers", layer), config_, layer);
  rotary_.cos = rotary_.cos.to(weights.device());
  rotary_.sin = rotary_.sin.to(weights.device());
  capacity_ = std::min(config_.max_seq_len, rotary_.cos.size(0));
  if (abs_pos_emb_.defined()) {
    abs_pos_emb_ = abs_pos_emb_.to(weights.device(), dtype_);
    capacity_ = std::min(capacity_, abs_pos_emb_.size(0));
  }
}

// Source: cosmos_predict1/autoregressive/{inference/world_generation_pipeline.py,utils/inference.py}. The tokenizer and its
// older name are folders beside the checkpoint's.
TokenVideoRules CosmosArTransformer::video_rules() const {
  return {.grid = config_.video_latent_shape,
          .known_latents = {1, 2},
          .temperature = 1,
          .top_p = 0.8,
          .fps = 25,
          .text_tokens = config_.insert_cross_attn ? 512 : 0,
          .tokenizer_folders = {"Cosmos-Tokenize1-DV8x16x16-720p", "Cosmos-1.0-Tokenizer-DV8x16x16"},
          .text_folders = {"google-t5/t5-11b", "t5-11b"}};
}

// The keys and values of a whole clip and of its text; and, while a block of the known tokens is read, the stream and its
// normed copies, query, key and value, the inner layer, and the scores of all heads before and after their softmax.
int64_t CosmosArTransformer::work_bytes(at::IntArrayRef tokens) const {
  const TokenVideoRules rules = video_rules();
  const int64_t frame = tokens[2] * tokens[3], known = std::min(rules.known_latents.back(), tokens[1]) * frame;
  const int64_t length = tokens[1] * frame + (config_.text_to_video ? 1 : 0), block = std::min(known, kPrefill);
  const int64_t pages = (length + KvCache::kPage - 1) / KvCache::kPage * KvCache::kPage;
  int64_t remembered = 0;
  for (const ArBlock& layer : layers_) remembered += pages + (layer.has_cross_attention() ? rules.text_tokens : 0);
  const int64_t keys_values = 2 * config_.n_kv_heads * config_.head_dim;
  const int64_t at_once = 6 * config_.dim + 3 * config_.ffn_hidden_size + 2 * config_.n_heads * known;
  return static_cast<int64_t>(c10::elementSize(dtype_)) * tokens[0] * (remembered * keys_values + block * at_once);
}

std::unique_ptr<TokenPredictor::Context> CosmosArTransformer::prepare(const Conditions& conditions) const {
  const c10::InferenceMode inference;
  auto context = std::make_unique<ArContext>();
  context->caches.resize(config_.n_layers);
  context->text.resize(config_.n_layers);
  const auto& text = conditions.text;
  if (config_.insert_cross_attn != text.defined())
    throw Error(ErrorKind::kArgument, {.place = "encoder_hidden_states",
                                       .what = text.defined() ? "is given, and this model takes no text" : "is missing",
                                       .expected = text.defined() ? "no text" : "the embedding of a prompt"});
  if (!text.defined()) return context;
  if (text.dim() != 3 || text.size(2) != config_.context_dim)
    throw Error(ErrorKind::kArgument, {.place = "encoder_hidden_states",
                                       .what = "has the wrong shape",
                                       .expected = "[B, L, " + std::to_string(config_.context_dim) + "]",
                                       .got = sizes_of(text)});
  context->text_batch = text.size(0);
  for (size_t i = 0; i < layers_.size(); ++i)
    if (layers_[i].has_cross_attention()) context->text[i] = layers_[i].cross_attention().keys_values(text.to(dtype_));
  return context;
}

at::Tensor CosmosArTransformer::logits(const at::Tensor& tokens, Context& context, bool last_only) const {
  const c10::InferenceMode inference;
  auto& mine = dynamic_cast<ArContext&>(context);
  if (tokens.dim() != 2 || tokens.numel() == 0 || (mine.text_batch > 0 && tokens.size(0) != mine.text_batch) ||
      at::isFloatingType(tokens.scalar_type()))
    throw Error(ErrorKind::kArgument,
                {.place = "input_ids",
                 .what = "has the wrong shape or dtype",
                 .expected = "int64 [B, n] with n above 0" + std::string(mine.text_batch ? ", B that of the text" : ""),
                 .got = sizes_of(tokens)});
  const int64_t count = tokens.size(1), room = capacity_ - mine.length();
  if (count > room)
    throw Error(ErrorKind::kArgument,
                {.place = "input_ids",
                 .what = "is longer than the model has room for",
                 .expected = "at most " + std::to_string(room) + " more tokens of " + std::to_string(capacity_),
                 .got = std::to_string(count)});
  const auto exist = [&] {
    return tokens.min().item<int64_t>() >= 0 && tokens.max().item<int64_t>() < tok_embeddings_.size(0);
  };
  if (!mine.drawn && !exist())
    throw Error(ErrorKind::kArgument, {.place = "input_ids",
                                       .what = "names tokens that the model does not have",
                                       .expected = "0 … " + std::to_string(tok_embeddings_.size(0) - 1),
                                       .hint = "is the video tokenizer the one this model was trained with?"});
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < count; begin += kPrefill) {
    const int64_t step = std::min(kPrefill, count - begin);
    auto h = hidden_states(tokens.narrow(1, begin, step), mine);
    if (!last_only) parts.push_back(output_(norm_(h)));
    if (last_only && begin + step == count) parts.push_back(output_(norm_(h.narrow(1, step - 1, 1))));
  }
  return parts.size() == 1 ? parts.front() : at::cat(parts, 1);
}

at::Tensor CosmosArTransformer::hidden_states(const at::Tensor& tokens, ArContext& context) const {
  const int64_t begin = context.length(), count = tokens.size(1);
  const auto rotary = rotary_.slice(begin, count);
  auto h = at::embedding(tok_embeddings_, tokens.to(at::kLong)).to(dtype_);  // [B,n,D]
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (abs_pos_emb_.defined()) h = h + abs_pos_emb_.narrow(0, begin, count);  // before every layer, not only the first
    h = layers_[i](h, rotary, context.caches[i], context.text[i].first, context.text[i].second);
  }
  return h;
}

std::unique_ptr<Component> build_cosmos_ar(const Config& config, const Weights& weights) {
  return std::make_unique<CosmosArTransformer>(config, weights);
}

}  // namespace orrery::models
