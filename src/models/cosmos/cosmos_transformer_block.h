#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "layers/linear.h"
#include "layers/rotary.h"
#include "orrery/config.h"
#include "orrery/weights.h"

namespace orrery::models {

/// What the blocks of the Cosmos diffusion transformers share; names and defaults of CosmosTransformer3DModel.
struct CosmosBlockConfig {
  int64_t num_attention_heads = 32;
  int64_t attention_head_dim = 128;
  double mlp_ratio = 4.0;
  int64_t text_embed_dim = 1024;
  int64_t adaln_lora_dim = 256;
  double qk_norm_eps = 1e-5;  ///< of norm_q and norm_k; diffusers' Attention default (the original networks have 1e-6)
  WeightForm weight_form =
      WeightForm::kStored;  ///< of the blocks' large products; modulations and embeddings stay as stored
  AttentionForm attention_form = AttentionForm::kExact;  ///< of the blocks' self-attention
  bool img_context = false;                              ///< cross-attention also looks at a picture's tokens (Transfer2.5)

  int64_t width() const { return num_attention_heads * attention_head_dim; }
};

/// The noise time of a forward, embedded for K groups of tokens.
struct CosmosTimeEmbedding {
  at::Tensor temb;               ///< [B,K,3D]
  at::Tensor embedded_timestep;  ///< [B,K,D]
};

/// Keys and values of one cross-attention; a picture's are undefined where there is none. [B,L,heads,head_dim] each.
struct CosmosCrossKeys {
  at::Tensor key, value;
  at::Tensor image_key, image_value;
};

/// LayerNorm without weights whose shift, scale and gate follow the noise time through a low-rank projection.
class CosmosAdaLayerNormZero {
 public:
  struct Modulation {
    at::Tensor shift, scale, gate;  // [B,K,D] each; gate undefined where parts = 2
  };
  /// `parts` is 3 in the blocks (shift, scale, gate) and 2 at the output.
  CosmosAdaLayerNormZero(const Weights& weights, const CosmosBlockConfig& config, int64_t parts);
  Modulation modulation(const CosmosTimeEmbedding& time) const;
  /// x [B,N,D] → normalised and modulated.
  static at::Tensor apply(const at::Tensor& hidden_states, const Modulation& modulation);

 private:
  int64_t parts_;
  layers::Linear linear_1, linear_2;
};

/// One attention with RMS-normalised queries and keys of each head.
class CosmosAttention {
 public:
  /// `context_dim` is the width of what keys and values are made of; `img_context` adds the projections of a picture's
  /// tokens.
  CosmosAttention(const Weights& weights, const CosmosBlockConfig& config, int64_t context_dim, bool img_context);

  /// `past` [2,B,M,heads,head_dim], where defined, are keys and values that come before; `own`, where not null, gets those
  /// of these tokens.
  at::Tensor self_attention(const at::Tensor& hidden_states, const layers::Rotary& rotary, const at::Tensor& past = {},
                            at::Tensor* own = nullptr) const;
  CosmosCrossKeys keys(const at::Tensor& text, const at::Tensor& image) const;
  at::Tensor cross_attention(const at::Tensor& hidden_states, const CosmosCrossKeys& keys, const at::Tensor& mask) const;

 private:
  int64_t heads_;
  double qk_norm_eps_;
  AttentionForm form_;
  layers::Linear to_q, to_k, to_v, to_out;
  at::Tensor norm_q, norm_k;
  layers::Linear q_img, k_img, v_img;
  at::Tensor q_img_norm, k_img_norm;
};

/// Self-attention, cross-attention, feed-forward, each behind its own adaptive norm and gate.
/// Source: diffusers 0.42.1 models/transformers/transformer_cosmos.py (CosmosTransformerBlock).
class CosmosTransformerBlock {
 public:
  CosmosTransformerBlock(const Weights& weights, const CosmosBlockConfig& config);

  /// Cross-attention's keys and values: text [B,L,text_embed_dim], image [B,L',D] or undefined. Depends on the prompt only.
  CosmosCrossKeys cross_keys(const at::Tensor& text, const at::Tensor& image) const { return attn2.keys(text, image); }

  /// hidden_states [B,N,D] → [B,N,D]; `extra_pos_emb` [B or 1,N,D] and `mask` may be undefined; `past` and `own` are those
  /// of CosmosAttention::self_attention.
  at::Tensor forward(at::Tensor hidden_states, const CosmosCrossKeys& keys, const CosmosTimeEmbedding& time,
                     const layers::Rotary& rotary, const at::Tensor& extra_pos_emb, const at::Tensor& mask,
                     const at::Tensor& past = {}, at::Tensor* own = nullptr) const;

 private:
  CosmosAdaLayerNormZero norm1, norm2, norm3;
  CosmosAttention attn1, attn2;
  layers::Linear ff_in, ff_out;
};

}  // namespace orrery::models
