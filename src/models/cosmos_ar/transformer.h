#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layers/linear.h"
#include "models/cosmos_ar/config.h"
#include "models/cosmos_ar/kv_cache.h"
#include "models/cosmos_ar/positions.h"
#include "orrery/token_predictor.h"
#include "orrery/weights.h"
#include "orrery/work_bytes.h"

namespace orrery::models {

/// The normalisation that `norm_type` names: RMS, or layer norm with or without a gain.
class ArNorm {
 public:
  ArNorm(const Weights& weights, const std::string& type, int64_t dim, double eps);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  at::Tensor weight_;
  bool rms_;
  double eps_;
};

/// Grouped-query attention with normalised queries and keys; of itself through a cache, or of a text.
class ArAttention {
 public:
  ArAttention(const Weights& weights, const CosmosArConfig& config, int64_t context_dim);
  /// x [B,n,D] after the tokens in `cache`.
  at::Tensor operator()(const at::Tensor& x, const ArRotary& rotary, KvCache& cache) const;
  /// x [B,n,D] looks at keys and values [B,L,heads,D'] of a text.
  at::Tensor cross(const at::Tensor& x, const at::Tensor& keys, const at::Tensor& values) const;
  /// The keys and the values of a text [B,L,D''].
  std::pair<at::Tensor, at::Tensor> keys_values(const at::Tensor& text) const;

 private:
  at::Tensor queries(const at::Tensor& x) const;

  int64_t heads_, groups_;
  std::optional<layers::Linear> wqkv_;  // a checkpoint may hold the three as one
  layers::Linear wq_, wk_, wv_, wo_;
  std::optional<ArNorm> q_norm_, k_norm_;
};

/// w2(silu(w1 x) · w3 x)
class ArMlp {
 public:
  ArMlp(const Weights& weights, const CosmosArConfig& config);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  layers::Linear w1_, w2_, w3_;
};

/// One layer: attention, cross-attention where there is a text, MLP, each after a norm and beside a skip.
class ArBlock {
 public:
  ArBlock(const Weights& weights, const CosmosArConfig& config, int64_t layer);
  bool has_cross_attention() const { return cross_attention_.has_value(); }
  const ArAttention& cross_attention() const { return *cross_attention_; }
  at::Tensor operator()(const at::Tensor& x, const ArRotary& rotary, KvCache& cache, const at::Tensor& text_keys,
                        const at::Tensor& text_values) const;

 private:
  ArNorm attention_norm_;
  ArAttention attention_;
  std::optional<ArNorm> cross_attention_norm_;
  std::optional<ArAttention> cross_attention_;
  ArNorm ffn_norm_;
  ArMlp feed_forward_;
};

/// Predict1's autoregressive transformer: the next video token after those so far.
/// Source: nvidia-cosmos/cosmos-predict1:cosmos_predict1/autoregressive/networks/transformer.py@4ed35fa.
class CosmosArTransformer final : public TokenPredictor, public TellsWorkBytes {
 public:
  CosmosArTransformer(const Config& config, const Weights& weights);

  std::string class_name() const override { return "Transformer"; }
  int64_t vocabulary() const override { return config_.vocab_size; }
  int64_t capacity() const override { return capacity_; }
  int64_t begin_token() const override { return config_.text_to_video ? config_.vocab_size : -1; }
  TokenVideoRules video_rules() const override;
  int64_t work_bytes(at::IntArrayRef tokens) const override;
  std::unique_ptr<Context> prepare(const Conditions& conditions) const override;
  at::Tensor logits(const at::Tensor& tokens, Context& context, bool last_only) const override;

 private:
  struct ArContext;
  at::Tensor hidden_states(const at::Tensor& tokens, ArContext& context) const;

  CosmosArConfig config_;
  at::ScalarType dtype_;
  at::Tensor tok_embeddings_;  // [rows, D] as stored
  std::vector<ArBlock> layers_;
  ArNorm norm_;
  layers::Linear output_;
  ArRotary rotary_;
  at::Tensor abs_pos_emb_;
  int64_t capacity_;
};

std::unique_ptr<Component> build_cosmos_ar(const Config& config, const Weights& weights);

}  // namespace orrery::models
