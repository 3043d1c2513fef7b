#include "models/cosmos/cosmos_controlnet_model.h"

#include <ATen/ATen.h>

#include "layers/attention.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

// The reference reads the same block and grid hyper-parameters as the transformer, but writes its positions' default as
// null.
Config with_positions_default(const Config& config) {
  if (config.has("extra_pos_embed_type")) return config;
  return layers::in_forms_of(config.with("extra_pos_embed_type", std::string()), config);
}

std::vector<double> scales_of(const TensorMap& inputs, size_t blocks) {
  std::vector<double> scales;
  for (size_t i = 0; inputs.contains("conditioning_scale." + std::to_string(i)); ++i)
    scales.push_back(inputs.at("conditioning_scale." + std::to_string(i)).to(at::kDouble).item<double>());
  if (scales.empty())
    scales.push_back(inputs.contains("conditioning_scale")
                         ? inputs.at("conditioning_scale").to(at::kDouble).flatten()[0].item<double>()
                         : 1.0);
  const size_t given = scales.size();
  while (scales.size() < blocks) scales.push_back(scales[scales.size() % given]);
  return scales;
}

at::Tensor float_or_undefined(const TensorMap& inputs, const std::string& name) {
  const auto found = inputs.find(name);
  return found == inputs.end() ? at::Tensor() : found->second.to(at::kFloat);
}

}  // namespace

CosmosControlNetModel::CosmosControlNetModel(const Config& config, const Weights& weights)
    : block_config_(CosmosTransformerConfig(with_positions_default(config)).block),
      in_channels_(config.get<int64_t>("in_channels", 130)),
      patch_embed(weights.sub("patch_embed"), in_channels_, config.get<int64_t>("model_channels", 2048),
                  config.get<std::vector<int64_t>>("patch_size", {1, 2, 2})),
      patch_embed_base(weights.sub("patch_embed_base"), config.get<int64_t>("latent_channels", 18),
                       config.get<int64_t>("model_channels", 2048),
                       config.get<std::vector<int64_t>>("patch_size", {1, 2, 2})),
      time_embed(weights.sub("time_embed"), config.get<int64_t>("model_channels", 2048)),
      control_blocks(config, weights, config.get<int64_t>("n_controlnet_blocks", 4),
                     [sizes = block_config_](const Weights& from, int64_t i) {
                       const Weights block = from.sub("control_blocks", i);
                       const int64_t width = sizes.width();
                       return ControlBlock{CosmosTransformerBlock(block, sizes),
                                           layers::Linear(block.sub("after_proj"), width, width, /*bias=*/true)};
                     }) {
  const CosmosTransformerConfig shared(with_positions_default(config));
  grid_config_ = shared.grid;
  const int64_t width = block_config_.width();
  if (shared.learnable_pos_embed) learnable_pos_embed.emplace(weights.sub("learnable_pos_embed"), width, grid_config_);
  if (shared.use_crossattn_projection)
    crossattn_proj = CosmosContextProjection(weights.sub("crossattn_proj"), shared.crossattn_proj_in_channels,
                                             shared.encoder_hidden_states_channels);
  if (shared.img_context_dim_in > 0)
    img_context_proj =
        CosmosContextProjection(weights.sub("img_context_proj"), shared.img_context_dim_in, shared.img_context_dim_out);
  before_proj = layers::Linear(weights.sub("control_blocks.0.before_proj"), width, width, /*bias=*/true);
}

CosmosControlNetModel::Context CosmosControlNetModel::prepare(const Inputs& inputs) const {
  Context context;
  const TokenGrid grid = patch_embed.grid(inputs.controls.sizes());
  context.rotary =
      cosmos_rotary(grid_config_, block_config_.attention_head_dim, grid, inputs.fps).to(inputs.controls.device());
  if (learnable_pos_embed) context.positions = (*learnable_pos_embed)(grid);
  if (inputs.text_mask.defined()) context.text_mask = inputs.text_mask.to(at::kBool).unsqueeze(1).unsqueeze(1);
  const at::Tensor text = crossattn_proj.defined() ? crossattn_proj(inputs.text) : inputs.text;
  const at::Tensor image =
      inputs.image.defined() && img_context_proj.defined() ? img_context_proj(inputs.image) : inputs.image;
  control_blocks.for_each(
      [&](const ControlBlock& each, size_t) { context.cross_keys.push_back(each.block.cross_keys(text, image)); });
  renew(context, inputs);
  return context;
}

void CosmosControlNetModel::renew(Context& context, const Inputs& inputs) const {
  const at::Tensor& controls = inputs.controls;
  const auto like_first = [&] { return at::zeros_like(controls.narrow(1, 0, 1)); };
  const at::Tensor padding = cosmos_padding_channel(
      inputs.padding_mask.defined() ? inputs.padding_mask
                                    : at::zeros({1, 1, controls.size(3), controls.size(4)}, controls.options()),
      controls.sizes());

  // Controls are filled with zero channels up to what the network takes, then come the two masks. [B,in_channels,t,h,w]
  std::vector<at::Tensor> control_input = {controls};
  const int64_t missing = in_channels_ - 2 - controls.size(1);
  if (missing > 0) control_input.push_back(like_first().expand({-1, missing, -1, -1, -1}));
  control_input.push_back(inputs.condition_mask.defined() ? inputs.condition_mask : like_first());
  control_input.push_back(padding);
  context.control_tokens = before_proj(patch_embed(at::cat(control_input, 1)));  // [B,N,D]
  context.base_channels = inputs.condition_mask.defined() ? at::cat({inputs.condition_mask, padding}, 1) : padding;
}

std::vector<at::Tensor> CosmosControlNetModel::forward(const at::Tensor& latents, const at::Tensor& times,
                                                       const Context& context) const {
  const CosmosTimeEmbedding time = time_embed(times);
  at::Tensor hidden_states =
      context.control_tokens + patch_embed_base(at::cat({latents, context.base_channels}, 1));  // [B,N,D]
  std::vector<at::Tensor> residuals;
  control_blocks.for_each([&](const ControlBlock& each, size_t i) {
    hidden_states =
        each.block.forward(hidden_states, context.cross_keys[i], time, context.rotary, context.positions, context.text_mask);
    residuals.push_back(each.after_proj(hidden_states));
  });
  return residuals;
}

TensorMap CosmosControlNetModel::call(const std::string& function, const TensorMap& inputs, const CallOptions&) const {
  const std::string name = "controlnet.forward";
  if (function != "forward")
    throw Error(ErrorKind::kArgument,
                {.place = class_name() + "." + function, .what = "is not known", .expected = "forward"});
  const at::Tensor latents = require_input(inputs, "latents", name).to(at::kFloat);
  const at::Tensor times = cosmos_times(require_input(inputs, "timestep", name));
  const bool pair = inputs.contains("encoder_hidden_states.0");
  const at::Tensor fps = float_or_undefined(inputs, "fps");
  const Context context = prepare(
      {.controls = require_input(inputs, "controls_latents", name).to(at::kFloat),
       .text = require_input(inputs, pair ? "encoder_hidden_states.0" : "encoder_hidden_states", name).to(at::kFloat),
       .image = float_or_undefined(inputs, "encoder_hidden_states.1"),
       .text_mask = inputs.contains("attention_mask") ? inputs.at("attention_mask") : at::Tensor(),
       .condition_mask = float_or_undefined(inputs, "condition_mask"),
       .padding_mask = float_or_undefined(inputs, "padding_mask"),
       .fps = fps.defined() ? fps.item<double>() : 0});
  const std::vector<at::Tensor> residuals = forward(latents, times, context);
  const std::vector<double> scales = scales_of(inputs, residuals.size());
  TensorMap samples;
  for (size_t i = 0; i < residuals.size(); ++i)
    samples["control_block_samples." + std::to_string(i)] = residuals[i] * scales[i];
  return samples;
}

std::unique_ptr<Component> build_cosmos_controlnet_model(const Config& config, const Weights& weights) {
  return std::make_unique<CosmosControlNetModel>(config, weights);
}

}  // namespace orrery::models
