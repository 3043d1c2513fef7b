#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>

#include "orrery/config.h"
#include "orrery/denoiser.h"
#include "orrery/diffusion.h"
#include "orrery/weights.h"

namespace orrery::models {

/// Predict1's diffusion decoder: the network of Predict1 with discrete tokens beside the noisy latents, which it sharpens
/// into continuous ones. Source:
/// nvidia-cosmos/cosmos-predict1:cosmos_predict1/autoregressive/diffusion_decoder/network.py@4ed35fa.
class DiffusionDecoderGeneralDIT final : public Denoiser {
 public:
  DiffusionDecoderGeneralDIT(const Config& config, const Weights& weights);

  std::string class_name() const override { return "DiffusionDecoderGeneralDIT"; }
  /// Among `conditions.controls` must be one of kind "tokens": `video` int64 [B,1,t,h',w'], a grid that may be coarser than
  /// the latents' `shape`.
  std::unique_ptr<Context> prepare(const Conditions& conditions, at::IntArrayRef shape) const override;
  void renew(Context& context, const Conditions& conditions, at::IntArrayRef shape) const override;
  Latents forward(const Latents& noisy, const at::Tensor& times, const Context& context) const override;
  /// "forward" with hidden_states, timestep, encoder_hidden_states, latent_condition int [B,1,t,h',w'], fps → sample.
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

 private:
  struct TokenContext;
  at::Tensor embedded(const Conditions& conditions, at::IntArrayRef shape) const;

  at::Tensor token_embedder_;  // [V,D'] as stored
  std::unique_ptr<Component> component_;
  const Denoiser& network_;
};

/// Recognises it by its embedding of tokens.
std::optional<Config> describe_cosmos_token_decoder(const Weights& weights);
std::unique_ptr<Component> build_cosmos_token_decoder(const Config& config, const Weights& weights);
/// How it is run: preconditioned as EDM, guided away from no text and token 0 everywhere. The tokens stand in the inputs'
/// controls.
std::unique_ptr<DiffusionRecipe> build_cosmos_token_decoder_recipe(const DiffusionParts& parts);

}  // namespace orrery::models
