#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>

#include "models/tinyworlds/tiny_world.h"
#include "orrery/error.h"
#include "orrery/token_dynamics.h"
#include "orrery/token_predictor.h"

namespace orrery::models {

TinyDynamics::TinyDynamics(const Config& config, const Weights& weights)
    : config_(TinyWorldConfig::from(config)),
      quantizer_{config_.latent_dim, config_.num_bins},
      latent_embed_(weights.sub("latent_embed"), config_.latent_dim, config_.embed_dim, true),
      transformer_(weights.sub("transformer"), config_),
      mask_token_(weights.get("mask_token", {1, 1, 1, config_.latent_dim})),
      positions_(tiny_positions(config_).to(weights.device())) {
  output_mlp_ = layers::Linear(weights.sub("output_mlp"), config_.embed_dim, quantizer_.vocabulary(), true);
}

// The transformer over the whole clip, and its logits, those of one frame once more as probabilities.
int64_t TinyDynamics::work_bytes(at::IntArrayRef tokens) const {
  const int64_t frame = tokens[0] * tokens[2] * tokens[3], vocabulary = quantizer_.vocabulary();
  return static_cast<int64_t>(sizeof(float)) *
         (tokens[1] * frame * (transformer_.width_at_once() + vocabulary) + 2 * frame * vocabulary);
}

at::Tensor TinyDynamics::logits(const at::Tensor& codes, const at::Tensor& actions) const {
  return output_mlp_(transformer_(latent_embed_(codes) + positions_, actions));
}

at::Tensor TinyDynamics::imagine(const at::Tensor& codes, const at::Tensor& actions, int64_t looks, double temperature,
                                 uint64_t seed, int64_t frame) const {
  constexpr float kSlope = 5;  // of the exponential by which more and more is settled
  const int64_t places = codes.size(2), past = codes.size(1);
  at::Tensor whole = at::cat({codes, mask_token_.expand({1, 1, places, config_.latent_dim})}, 1);
  at::Tensor masked = at::ones({places}, codes.options().dtype(at::kBool));
  // The look after the last takes the most likely of what is left.
  for (int64_t look = 0; look <= looks && masked.any().item<bool>(); ++look) {
    const at::Tensor scores = logits(whole, actions).select(1, past).squeeze(0);  // [P,K]
    const at::Tensor scaled = temperature > 0 ? scores / temperature : scores;
    const bool draw = temperature > 0 && look < looks;
    const at::Tensor chosen = draw ? sample_tokens(scaled, {.seed = seed}, frame * 64 + look) : scaled.argmax(-1);
    at::Tensor settled = masked;
    if (look < looks) {
      const float share = static_cast<float>(look) / static_cast<float>(looks);
      const float wanted = look == looks - 1 ? static_cast<float>(places)
                                             : static_cast<float>(places) * std::expm1(kSlope * share) / std::expm1(kSlope);
      const int64_t left = masked.sum().item<int64_t>(), done = places - left;
      const int64_t due = std::clamp<int64_t>(static_cast<int64_t>(std::ceil(wanted)) - done, 0, left);
      const int64_t count = std::min(left, std::max({int64_t{1}, places / 16, due}));
      const at::Tensor confidence = std::get<0>(scaled.softmax(-1).max(-1)).masked_fill(masked.logical_not(), -1);
      settled = at::zeros_like(masked).index_fill(0, std::get<1>(confidence.topk(count)), true);
    }
    const at::Tensor guess = quantizer_.values(quantizer_.digits_of(chosen));  // [P,L]
    const at::Tensor next = at::where(settled.unsqueeze(-1), guess, whole.select(1, past).squeeze(0));
    whole = at::cat({codes, next.view({1, 1, places, -1})}, 1);
    masked = masked.logical_and(settled.logical_not());
  }
  return whole;
}

TensorMap TinyDynamics::call(const std::string& function, const TensorMap& inputs, const CallOptions&) const {
  const c10::InferenceMode inference;
  const auto refuse = [](const std::string& what, const std::string& expected) {
    throw Error(ErrorKind::kArgument, {.place = "dynamics.logits", .what = what, .expected = expected});
  };
  require_logits_function(function, class_name());
  const at::Tensor tokens = require_input(inputs, "input_ids", "dynamics.logits");
  const int64_t places = config_.side() * config_.side();
  if (tokens.dim() != 2 || tokens.size(1) == 0 || tokens.size(1) % places != 0)
    refuse("input_ids have the wrong shape", "int64 [B, frames · " + std::to_string(places) + "]");
  at::Tensor actions;
  if (const auto found = inputs.find("actions"); found != inputs.end()) actions = found->second.to(at::kFloat);
  const int64_t frames = tokens.size(1) / places;
  const bool fits = !actions.defined() || (actions.dim() == 3 && actions.size(2) == config_.action_dim &&
                                           (actions.size(1) == frames || actions.size(1) == frames - 1));
  if (!fits) refuse("actions have the wrong shape", "[B, frames or one less, " + std::to_string(config_.action_dim) + "]");
  const at::Tensor codes = quantizer_.values(quantizer_.digits_of(tokens)).unflatten(1, {frames, places});
  return {{"logits", logits(codes, actions).flatten(1, 2).contiguous()}};
}

std::optional<Config> describe_tiny_world(const Weights& weights) {
  const auto size = [&](const std::string& name, size_t axis) -> int64_t {
    const auto shape = weights.shape(name);
    return shape && axis < shape->size() ? (*shape)[axis] : 0;
  };
  const bool dynamics = weights.has("mask_token") && weights.has("latent_embed.weight");
  const bool actions = weights.has("encoder.action_head.3.weight");
  if (!dynamics && !actions && !weights.has("decoder.frame_head.to_pixels.weight")) return std::nullopt;
  const std::string transformer = dynamics ? "transformer." : "encoder.transformer.";
  int64_t blocks = 0;
  while (weights.has(transformer + "blocks." + std::to_string(blocks) + ".spatial_attn.q_proj.weight")) ++blocks;
  const int64_t width = size(transformer + "blocks.0.spatial_attn.q_proj.weight", 0);
  if (blocks == 0 || width == 0) return std::nullopt;
  const char* name = dynamics ? "DynamicsModel" : actions ? "LatentActionModel" : "VideoTokenizer";
  Config config = Config()
                      .with("_class_name", std::string(name))
                      .with("_config_beside", true)
                      .with("embed_dim", width)
                      .with("num_blocks", blocks);
  if (!dynamics) {
    const int64_t pixels = size("encoder.patch_embed.proj.weight", 1) / 3;
    config = config.with("patch_size", int64_t{std::lround(std::sqrt(static_cast<double>(pixels)))});
  }
  if (actions)
    return config.with("n_actions", int64_t{1} << std::clamp<int64_t>(size("encoder.action_head.3.weight", 0), 0, 62));
  const int64_t latent = dynamics ? size("latent_embed.weight", 1) : size("decoder.latent_embed.weight", 1);
  config = config.with("latent_dim", latent);
  if (!dynamics) return config;
  const auto values = static_cast<double>(size("output_mlp.weight", 0));
  return config.with("num_bins", int64_t{std::lround(std::pow(values, 1.0 / static_cast<double>(latent)))})
      .with("conditioning_dim", size("transformer.blocks.0.ffn.norm.to_gamma_beta.1.weight", 1));
}

std::unique_ptr<Component> build_tiny_dynamics(const Config& config, const Weights& weights) {
  return std::make_unique<TinyDynamics>(config, weights);
}

}  // namespace orrery::models
