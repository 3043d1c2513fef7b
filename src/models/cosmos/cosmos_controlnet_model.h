#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "models/cosmos/cosmos_transformer_3d_model.h"

namespace orrery::models {

/// The control branch of Cosmos Transfer2.5: a few transformer blocks over the control's latents, whose projected outputs are
/// added to the main network's blocks.
/// Source: diffusers 0.42.1 models/controlnets/controlnet_cosmos.py (CosmosControlNetModel).
class CosmosControlNetModel final : public Component {
 public:
  CosmosControlNetModel(const Config& config, const Weights& weights);

  std::string class_name() const override { return "CosmosControlNetModel"; }
  /// "forward": controls_latents [B,C,t,h,w], latents [B,C,t,h,w], timestep, encoder_hidden_states (or .0 text, .1 picture),
  /// condition_mask, padding_mask, conditioning_scale (a scalar, or .0, .1, …) → control_block_samples.0, .1, … [B,N,D]
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

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
  std::vector<ControlBlock> control_blocks;
};

std::unique_ptr<Component> build_cosmos_controlnet_model(const Config& config, const Weights& weights);

}  // namespace orrery::models
