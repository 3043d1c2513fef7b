#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layers/linear.h"
#include "orrery/config.h"
#include "orrery/frame_predictor.h"
#include "orrery/weights.h"
#include "orrery/work_bytes.h"

namespace orrery::models {

/// The hyper-parameters of 1X's GENIE. Names and defaults are those of the reference's GenieConfig.
struct GenieConfig {
  int64_t num_layers = 0, num_heads = 8, d_model = 0;
  int64_t T = 16, S = 256;               ///< frames of a clip, tokens of a frame
  int64_t image_vocab_size = 262144;     ///< different tokens of a picture
  int64_t num_factored_vocabs = 1;       ///< digits in which a token is written
  int64_t factored_vocab_size = 262144;  ///< values of a digit: image_vocab_size's root
  bool use_mup = false, qkv_bias = false, proj_bias = true, qk_norm = true, mlp_bias = true;
  double mlp_ratio = 4;

  static GenieConfig from(const Config& config);
};

/// A norm over the last dimension with gain and bias; or none.
struct GenieNorm {
  GenieNorm() = default;
  GenieNorm(const Weights& weights, int64_t size);
  at::Tensor operator()(const at::Tensor& x) const;
  at::Tensor weight, bias;
};

/// Keys and values that one layer's attention over time has seen, [B·S,heads,t,D'] each.
struct GenieTimes {
  at::Tensor keys, values;
};

/// Self-attention; over time with the past in `times`.
class GenieAttention {
 public:
  GenieAttention(const Weights& weights, const GenieConfig& config);
  /// x [N,n,D]; each of the n sees all, or with `times` itself, those before it, and the past, which `grown` is then.
  at::Tensor operator()(const at::Tensor& x, const GenieTimes* times = nullptr, GenieTimes* grown = nullptr) const;

 private:
  int64_t heads_;
  double scale_;
  layers::Linear qkv_, proj_;
  std::optional<GenieNorm> norm_;
};

/// One layer: attention in space, attention in time, MLP.
class GenieBlock {
 public:
  GenieBlock(const Weights& weights, const GenieConfig& config);
  at::Tensor operator()(const at::Tensor& x, const GenieTimes& times, GenieTimes& grown) const;  ///< x [B,n,S,D]

 private:
  GenieNorm norm1_;
  GenieAttention spatial_attn_, temporal_attn_;
  GenieNorm norm2_;
  layers::Linear fc1_, fc2_;
};

/// 1X's GENIE: a space-time transformer that fills in masked tokens of the next frame.
/// Source: 1x-technologies/1xgpt:genie/st_mask_git.py@0069734.
class STMaskGIT final : public FramePredictor, public TellsWorkBytes {
 public:
  STMaskGIT(const Config& config, const Weights& weights);

  std::string class_name() const override { return "STMaskGIT"; }
  int64_t vocabulary() const override { return config_.image_vocab_size; }
  TokenVideoRules video_rules() const override;
  int64_t work_bytes(at::IntArrayRef tokens) const override;
  std::unique_ptr<Context> prepare(int64_t batch) const override;
  void observe(const at::Tensor& frames, Context& context) const override;
  at::Tensor imagine(const FrameSampling& sampling, Context& context) const override;
  /// The published tokens number a code's bits from the other end than the tokenizer does.
  at::Tensor from_codec(const at::Tensor& indices) const override;
  at::Tensor to_codec(const at::Tensor& tokens) const override { return from_codec(tokens); }
  /// "logits": input_ids [B, t·S] → logits [B, t·S, digits · values], low digit first. `streaming` frames at a time.
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

 private:
  struct Frames;
  at::Tensor embed(const at::Tensor& tokens) const;
  at::Tensor logits(const at::Tensor& tokens, const Frames& past, Frames* grown) const;
  at::Tensor choose(const at::Tensor& logits, const FrameSampling& sampling, int64_t frame, int64_t look) const;

  GenieConfig config_;
  int64_t side_;
  at::ScalarType dtype_;
  std::vector<at::Tensor> factored_embeds_;  // [values, D] as stored, one a digit
  at::Tensor mask_token_embed_, pos_embed_;  // [D], [T,S,D]
  std::vector<GenieBlock> layers_;
  layers::Linear out_x_proj_;
  double readout_ = 1;
};

/// Recognises a checkpoint; its config.json, if there is one, says what the shapes cannot.
std::optional<Config> describe_genie(const Weights& weights);
std::unique_ptr<Component> build_genie(const Config& config, const Weights& weights);

}  // namespace orrery::models
