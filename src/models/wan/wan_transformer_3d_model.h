#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layers/block_stream.h"
#include "layers/linear.h"
#include "layers/rotary.h"
#include "orrery/config.h"
#include "orrery/denoiser.h"
#include "orrery/work_bytes.h"

namespace orrery::models {

/// Names and defaults of the reference's constructor.
struct WanTransformerConfig {
  explicit WanTransformerConfig(const Config& config);

  std::vector<int64_t> patch_size;
  int64_t num_attention_heads, attention_head_dim, in_channels, out_channels, text_dim, freq_dim, ffn_dim, num_layers;
  bool cross_attn_norm;
  double eps;
  int64_t image_dim;             ///< 0: no picture branch
  int64_t added_kv_proj_dim;     ///< 0: no picture keys
  int64_t pos_embed_seq_len;     ///< 0: the picture tokens get no positions
  WeightForm weight_form;        ///< of the blocks' products; what stands around the blocks stays as it is stored
  AttentionForm attention_form;  ///< of the blocks' self-attention

  int64_t width() const { return num_attention_heads * attention_head_dim; }
};

/// Keys and values of one cross-attention; the picture's are undefined where there is none. [B,L,heads,head_dim]
struct WanCrossKeys {
  at::Tensor key, value;
  at::Tensor image_key, image_value;
};

/// What a causal use of the network looks back on: frames that went through it earlier.
struct WanMemory {
  int64_t first_frame = 0;  ///< number of this call's first latent frame, for the rotary angles
  std::vector<at::Tensor>
      past;                     ///< by block, rotated keys and values of earlier frames [2,B,N',heads,head_dim]; empty: none
  std::vector<at::Tensor> own;  ///< by block, the same of this call's frames; the call fills it
  /// Run in each block between cross-attention and feed-forward, on [B,N,D]; empty: nothing is.
  std::function<at::Tensor(size_t block, const at::Tensor& hidden_states)> inject;
};

/// Attention with queries and keys normalised across all heads together.
class WanAttention {
 public:
  WanAttention(const Weights& weights, const WanTransformerConfig& config, bool added_kv);
  /// `past` (undefined: none) is seen too; `own`, where given, receives this call's rotated keys and values
  /// [2,B,N,heads,head_dim].
  at::Tensor self_attention(const at::Tensor& hidden_states, const layers::Rotary& rotary, const at::Tensor& past = {},
                            at::Tensor* own = nullptr) const;
  WanCrossKeys keys(const at::Tensor& text, const at::Tensor& image) const;
  at::Tensor cross_attention(const at::Tensor& hidden_states, const WanCrossKeys& keys) const;

 private:
  int64_t heads_;
  double eps_;
  AttentionForm form_;
  layers::Linear to_q, to_k, to_v, to_out;
  at::Tensor norm_q, norm_k;
  layers::Linear add_k_proj, add_v_proj;
  at::Tensor norm_added_k;
};

/// Self-attention, cross-attention, feed-forward; shift, scale and gate are the noise time's plus a learned table.
class WanTransformerBlock {
 public:
  WanTransformerBlock(const Weights& weights, const WanTransformerConfig& config);
  WanCrossKeys cross_keys(const at::Tensor& text, const at::Tensor& image) const { return attn2.keys(text, image); }
  /// hidden_states [B,N,D], timestep_proj [B,K,6,D] → [B,N,D]. `memory`, where given, is read and filled at `index`.
  at::Tensor forward(at::Tensor hidden_states, const WanCrossKeys& keys, const at::Tensor& timestep_proj,
                     const layers::Rotary& rotary, WanMemory* memory = nullptr, size_t index = 0) const;

 private:
  double eps_;
  WanAttention attn1, attn2;
  at::Tensor norm2_weight, norm2_bias;  // undefined where cross_attn_norm is false
  layers::Linear ffn_in, ffn_out;
  at::Tensor scale_shift_table;  // [1,6,D]
};

/// Noise time, text and picture brought to the width of the blocks.
class WanTimeTextImageEmbedding {
 public:
  WanTimeTextImageEmbedding(const Weights& weights, const WanTransformerConfig& config);
  /// times [B,K] → temb [B,K,D]
  at::Tensor time(const at::Tensor& times) const;
  /// temb [B,K,D] → [B,K,6,D]
  at::Tensor modulation(const at::Tensor& temb) const;
  at::Tensor text(const at::Tensor& embeddings) const;
  at::Tensor image(const at::Tensor& embeddings) const;

 private:
  int64_t freq_dim_;
  layers::Linear time_linear_1, time_linear_2, time_proj, text_linear_1, text_linear_2;
  at::Tensor image_pos_embed, image_norm1_weight, image_norm1_bias, image_norm2_weight, image_norm2_bias;
  layers::Linear image_ff_in, image_ff_out;
};

/// What does not depend on the noise.
struct WanContext final : Denoiser::Context {
  std::vector<WanCrossKeys> cross_keys;  // one for each block
  layers::Rotary rotary;
  at::Tensor extra_channels;  // [B,C',t,h,w] put behind the latents (I2V: mask and encoded picture), or undefined
};

/// The diffusion transformer of Wan 2.1 and 2.2.
/// Source: diffusers 0.42.1 models/transformers/transformer_wan.py (WanTransformer3DModel).
class WanTransformer3DModel final : public Denoiser, public TellsWorkBytes {
 public:
  WanTransformer3DModel(const Config& config, const Weights& weights);

  std::string class_name() const override { return "WanTransformer3DModel"; }
  /// conditions.known, with a mask of as many channels as the network takes, is put behind the latents (I2V).
  std::unique_ptr<Context> prepare(const Conditions& conditions, at::IntArrayRef shape) const override;
  int64_t work_bytes(at::IntArrayRef latents) const override;
  void renew(Context& context, const Conditions& conditions, at::IntArrayRef shape) const override;
  Latents forward(const Latents& noisy, const at::Tensor& times, const Context& context) const override;
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

  const WanTransformerConfig& config() const { return config_; }
  /// Text [B,L,text_dim] and a picture's tokens [B,L',image_dim], either of which may be undefined, ready for latents of
  /// this shape.
  std::unique_ptr<WanContext> make_context(const at::Tensor& text, const at::Tensor& image, at::IntArrayRef shape) const;
  /// latents [B,C,t,h,w] with all the network's input channels, times [B,K] → [B,C',t,h,w]
  at::Tensor denoise(const at::Tensor& latents, const at::Tensor& times, const WanContext& context,
                     WanMemory* memory = nullptr) const;

 private:
  WanTransformerConfig config_;
  at::Tensor patch_embedding_weight, patch_embedding_bias;  // [D,C,pt,ph,pw], [D]
  WanTimeTextImageEmbedding condition_embedder;
  layers::BlockStream<WanTransformerBlock> blocks;
  layers::Linear proj_out;
  at::Tensor scale_shift_table;  // [1,2,D]
};

/// The network from diffusers' names, or from the original's where the config's `_dialect` says so.
std::unique_ptr<Component> build_wan_transformer_3d_model(const Config& config, const Weights& weights);

/// The network from an original folder, whose config.json (class WanModel) tells the number of heads and the tensors the
/// rest.
std::unique_ptr<Component> build_wan_model(const Config& config, const Weights& weights);

/// Recognises the original names (T2V, I2V, TI2V, FLF2V) and reads the sizes off the tensors. Throws Error(kConfig) where
/// the width leaves the number of heads open.
std::optional<Config> describe_wan_transformer(const Weights& weights);

/// diffusers name → original name of every tensor of a network of so many blocks.
std::map<std::string, std::string> original_wan_transformer_names(int64_t num_layers);

/// The same as a list of the layouts that a network of this config may be known by.
std::vector<std::map<std::string, std::string>> wan_transformer_layouts(const Config& config);

}  // namespace orrery::models
