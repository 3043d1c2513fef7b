#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "layers/linear.h"
#include "orrery/config.h"
#include "orrery/weights.h"

namespace orrery::models {

/// What the parts of a tiny world share. Names are those of the original's configuration, defaults those of its
/// training.yaml.
struct TinyWorldConfig {
  int64_t frame_size = 64, patch_size = 4;
  int64_t embed_dim = 32, num_heads = 8, num_blocks = 0;
  int64_t latent_dim = 5, num_bins = 4;  ///< of the video tokenizer's codes
  int64_t action_dim = 0;                ///< signs in a latent action; 0: not conditioned

  /// Sizes from the tensors under `block`'s prefix where `config` does not say them.
  static TinyWorldConfig from(const Config& config);
  int64_t side() const { return frame_size / patch_size; }
};

/// The norm after each part of a block: RMS with a gain, or, where actions condition the network, layer norm scaled and
/// shifted by the action.
class TinyNorm {
 public:
  TinyNorm(const Weights& weights, const TinyWorldConfig& config);
  /// x [B,T,P,E], actions [B,T or T − 1,A]: the first of T frames has none.
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& actions) const;

 private:
  at::Tensor gain_;
  layers::Linear to_gamma_beta_;
};

/// Attention of every patch to those of its frame, or of every patch to itself in the frames up to its own.
class TinyAttention {
 public:
  TinyAttention(const Weights& weights, const TinyWorldConfig& config, bool over_time);
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& actions) const;

 private:
  int64_t heads_;
  bool over_time_;
  layers::Linear q_proj_, k_proj_, v_proj_, out_proj_;
  TinyNorm norm_;
};

/// w_o(silu(w_v x) · w_g x)
class TinyFeedForward {
 public:
  TinyFeedForward(const Weights& weights, const TinyWorldConfig& config);
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& actions) const;
  int64_t hidden() const { return hidden_; }

 private:
  int64_t hidden_;
  layers::Linear w_v_, w_g_, w_o_;
  TinyNorm norm_;
};

/// The space-time transformer of every part. Source: AlmondGod/tinyworlds:models/st_transformer.py@a99f3a8.
class TinyTransformer {
 public:
  TinyTransformer(const Weights& weights, const TinyWorldConfig& config);
  /// x [B,T,P,E]; frame 0 is the first of the clip.
  at::Tensor operator()(at::Tensor x, const at::Tensor& actions = {}) const;
  /// Numbers that a token has in a block at once: the stream and its copies, with query, key and value or the inner layer.
  int64_t width_at_once() const;

 private:
  struct Block {
    TinyAttention spatial_attn, temporal_attn;
    TinyFeedForward ffn;
  };
  std::vector<Block> blocks_;
  int64_t embed_dim_, temporal_dim_;
};

/// Sine-cosine of the patches' columns and rows, [P,E], zero where the transformer adds that of time.
at::Tensor tiny_positions(const TinyWorldConfig& config);

}  // namespace orrery::models
