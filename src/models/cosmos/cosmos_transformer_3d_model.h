#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layers/block_stream.h"
#include "models/cosmos/cosmos_action_embedding.h"
#include "models/cosmos/cosmos_embeddings.h"
#include "models/cosmos/cosmos_transformer_block.h"
#include "orrery/config.h"
#include "orrery/denoiser.h"
#include "orrery/work_bytes.h"

namespace orrery::models {

/// Names and defaults of the reference's constructor.
struct CosmosTransformerConfig {
  explicit CosmosTransformerConfig(const Config& config);

  int64_t in_channels, out_channels, num_layers;
  CosmosBlockConfig block;
  CosmosGridConfig grid;
  bool concat_padding_mask;
  bool learnable_pos_embed;
  bool use_crossattn_projection;
  int64_t crossattn_proj_in_channels, encoder_hidden_states_channels;
  int64_t controlnet_block_every_n;  ///< 0: takes no control
  int64_t img_context_dim_in, img_context_dim_out, img_context_num_tokens;
  int64_t action_features;           ///< what the action embedders take; 0: the network takes no actions
  int64_t actions_per_latent_frame;  ///< 0: all actions steer all frames
};

/// Linear and exact GELU: what brings text or picture embeddings to the width the blocks expect.
class CosmosContextProjection {
 public:
  CosmosContextProjection() = default;
  CosmosContextProjection(const Weights& weights, int64_t in_features, int64_t out_features);
  at::Tensor operator()(const at::Tensor& context) const;
  bool defined() const { return linear_.defined(); }

 private:
  layers::Linear linear_;  // "0"
};

/// What does not depend on the noise.
struct CosmosContext final : Denoiser::Context {
  std::vector<CosmosCrossKeys> cross_keys;  // one for each block
  layers::Rotary rotary;
  at::Tensor extra_pos_emb;                   // [1,N,D], or undefined
  at::Tensor text_mask;                       // bool [B,1,1,L], or undefined
  at::Tensor extra_channels;                  // [B,1 or 2,t,h,w] put behind the latents: condition mask, padding mask
  CosmosTimeEmbedding actions;                // added to the embedding of the noise time, or undefined
  std::vector<at::Tensor> control_residuals;  // [B,N,D] each, added after every n-th block; empty: none
  std::vector<at::Tensor> past;               // [2,B,M,heads,head_dim] for each block: what came before; empty: nothing
};

/// The diffusion transformer of Cosmos Predict1, Predict2, Predict2.5 and Transfer2.5.
/// Source: diffusers 0.42.1 models/transformers/transformer_cosmos.py (CosmosTransformer3DModel).
class CosmosTransformer3DModel final : public Denoiser, public TellsWorkBytes {
 public:
  CosmosTransformer3DModel(const Config& config, const Weights& weights);

  std::string class_name() const override { return "CosmosTransformer3DModel"; }
  std::unique_ptr<Context> prepare(const Conditions& conditions, at::IntArrayRef shape) const override;
  void renew(Context& context, const Conditions& conditions, at::IntArrayRef shape) const override;
  Latents forward(const Latents& noisy, const at::Tensor& times, const Context& context) const override;
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

  /// Keys and values of the text [B,L,D], and of a picture where there is one, for each block.
  std::vector<CosmosCrossKeys> cross_keys(const at::Tensor& text, const at::Tensor& image = {}) const;
  /// For streams of single latent frames [1,C,1,h,w], whose context needs `cross_keys` beside this: turns to number `frame`,
  /// before which `actions` [1,T,A] were done (undefined: none); `known`: it is given.
  void at_frame(CosmosContext& context, at::IntArrayRef shape, int64_t frame, const at::Tensor& actions, bool known) const;
  /// One look at latents; those of a stream attend to `context.past` and to themselves. `own`, where not null, gets its keys
  /// and values, [2,1,N,heads,head_dim] for each block.
  at::Tensor look(const at::Tensor& latents, const at::Tensor& times, const CosmosContext& context,
                  std::vector<at::Tensor>* own = nullptr) const;

  int64_t work_bytes(at::IntArrayRef latents) const override;
  const CosmosTransformerConfig& config() const { return config_; }

 private:
  // The inputs of a context under the reference's argument names.
  struct ContextInputs {
    at::Tensor text, image, text_mask, condition_mask, padding_mask, actions;
    double fps = 0;
  };
  std::unique_ptr<CosmosContext> make_context(const ContextInputs& inputs, at::IntArrayRef shape) const;
  at::Tensor extra_channels(const at::Tensor& condition_mask, const at::Tensor& padding_mask, at::IntArrayRef shape) const;

  CosmosTransformerConfig config_;
  c10::Device device_;
  CosmosPatchEmbed patch_embed;
  std::optional<CosmosLearnablePositionalEmbed> learnable_pos_embed;
  CosmosEmbedding time_embed;
  layers::BlockStream<CosmosTransformerBlock> transformer_blocks;
  CosmosAdaLayerNormZero norm_out;
  layers::Linear proj_out;
  CosmosContextProjection crossattn_proj, img_context_proj;
  CosmosActionEmbedding action_embedder;
};

/// times of a reference call ([B], [B,1,T,1,1]) as [B,K]. Throws Error(kArgument) on another rank.
at::Tensor cosmos_times(const at::Tensor& timestep);

/// The network from diffusers' names, or from an original repository's where the config's `_dialect` says so.
std::unique_ptr<Component> build_cosmos_transformer_3d_model(const Config& config, const Weights& weights);

/// Recognises the original names of Predict1, Predict2 and Predict2.5 and reads the sizes off the tensors; what they do not
/// tell (the stretch of positions) is that of the release of this width and kind.
std::optional<Config> describe_cosmos_transformer(const Weights& weights);

/// diffusers name → original name, once for each layout that a network of this config may be known by.
std::vector<std::map<std::string, std::string>> cosmos_transformer_layouts(const Config& config);

}  // namespace orrery::models
