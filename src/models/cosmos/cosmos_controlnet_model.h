#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "models/cosmos/cosmos_transformer_3d_model.h"

namespace orrery::models {

/// The control branch of Cosmos Transfer2.5: a few transformer blocks over the control's latents, whose projected outputs
/// are added to the main network's blocks. Source: diffusers 0.42.1 models/controlnets/controlnet_cosmos.py
/// (CosmosControlNetModel).
class CosmosControlNetModel final : public Component {
 public:
  CosmosControlNetModel(const Config& config, const Weights& weights);

  std::string class_name() const override { return "CosmosControlNetModel"; }
  /// "forward": controls_latents [B,C,t,h,w], latents [B,C,t,h,w], timestep, encoder_hidden_states (or .0 text, .1 picture),
  /// condition_mask, padding_mask, conditioning_scale (a scalar, or .0, .1, …) → control_block_samples.0, .1, … [B,N,D]
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

  /// What does not depend on the noise.
  struct Context {
    std::vector<CosmosCrossKeys> cross_keys;  // one for each block
    layers::Rotary rotary;
    at::Tensor positions, text_mask;
    at::Tensor control_tokens;  // [B,N,D]
    at::Tensor base_channels;   // [B,1 or 2,t,h,w], put behind the latents: condition mask, padding mask
  };
  /// What a context is made of, in the reference's names; `image`, the masks and `fps` may be absent.
  struct Inputs {
    at::Tensor controls;  ///< float [B,C,t,h,w]
    at::Tensor text, image, text_mask, condition_mask, padding_mask;
    double fps = 0;
  };
  Context prepare(const Inputs& inputs) const;
  /// Another control and other known frames, the same prompt.
  void renew(Context& context, const Inputs& inputs) const;
  /// The residuals of each block [B,N,D], not scaled. times [B,K].
  std::vector<at::Tensor> forward(const at::Tensor& latents, const at::Tensor& times, const Context& context) const;

 private:
  struct ControlBlock {
    CosmosTransformerBlock block;
    layers::Linear after_proj;
  };

  CosmosBlockConfig block_config_;
  CosmosGridConfig grid_config_;
  int64_t in_channels_;
  CosmosPatchEmbed patch_embed, patch_embed_base;
  CosmosEmbedding time_embed;
  std::optional<CosmosLearnablePositionalEmbed> learnable_pos_embed;
  CosmosContextProjection crossattn_proj, img_context_proj;
  layers::Linear before_proj;  // of the first block
  layers::BlockStream<ControlBlock> control_blocks;
};

std::unique_ptr<Component> build_cosmos_controlnet_model(const Config& config, const Weights& weights);

}  // namespace orrery::models
