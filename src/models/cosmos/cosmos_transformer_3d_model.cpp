#include "models/cosmos/cosmos_transformer_3d_model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <sstream>
#include <utility>

#include "layers/attention.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr int64_t kTextTokens = 512;  // the most that a prompt has

std::vector<int64_t> three(const Config& config, const char* key, std::vector<int64_t> fallback) {
  auto value = config.get<std::vector<int64_t>>(key, std::move(fallback));
  if (value.size() != 3)
    throw Error(ErrorKind::kConfig, {.place = config.place() + ": " + key,
                                     .what = "has the wrong length",
                                     .expected = "3 numbers (t, h, w)",
                                     .got = std::to_string(value.size())});
  return value;
}

// null means none; only an absent key means the reference's default.
bool learns_positions(const Config& config) {
  const auto keys = config.keys();
  if (std::find(keys.begin(), keys.end(), "extra_pos_embed_type") == keys.end()) return true;
  const auto type = config.find<std::string>("extra_pos_embed_type");
  if (type && type->empty()) return false;
  if (type && *type != "learnable")
    throw Error(ErrorKind::kUnsupported, {.place = config.place() + ": extra_pos_embed_type",
                                          .what = "is not known",
                                          .expected = "null or \"learnable\"",
                                          .got = "\"" + *type + "\""});
  return type.has_value();
}

int64_t patch_volume(const CosmosTransformerConfig& config) {
  return config.grid.patch_size[0] * config.grid.patch_size[1] * config.grid.patch_size[2];
}

at::Tensor optional_input(const TensorMap& inputs, const std::string& name) {
  const auto found = inputs.find(name);
  return found == inputs.end() ? at::Tensor() : found->second;
}

// The argument names of the original repositories' forward, by diffusers' names.
TensorMap by_this_name(TensorMap inputs) {
  constexpr std::array<std::pair<const char*, const char*>, 4> kNames = {
      {{"x_B_C_T_H_W", "hidden_states"},
       {"timesteps_B_T", "timestep"},
       {"crossattn_emb", "encoder_hidden_states"},
       {"condition_video_input_mask_B_C_T_H_W", "condition_mask"}}};
  for (const auto& [original, name] : kNames)
    if (auto node = inputs.extract(original)) {
      node.key() = name;
      inputs.insert(std::move(node));
    }
  return inputs;
}

at::Tensor as_float(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.to(at::kFloat) : tensor;
}

}  // namespace

CosmosTransformerConfig::CosmosTransformerConfig(const Config& config)
    : in_channels(config.get<int64_t>("in_channels", 16)),
      out_channels(config.get<int64_t>("out_channels", 16)),
      num_layers(config.get<int64_t>("num_layers", 28)),
      concat_padding_mask(config.get<bool>("concat_padding_mask", true)),
      learnable_pos_embed(learns_positions(config)),
      use_crossattn_projection(config.get<bool>("use_crossattn_projection", false)),
      crossattn_proj_in_channels(config.get<int64_t>("crossattn_proj_in_channels", 1024)),
      encoder_hidden_states_channels(config.get<int64_t>("encoder_hidden_states_channels", 1024)),
      controlnet_block_every_n(config.get<int64_t>("controlnet_block_every_n", 0)),
      img_context_dim_in(config.get<int64_t>("img_context_dim_in", 0)),
      img_context_dim_out(config.get<int64_t>("img_context_dim_out", 2048)),
      img_context_num_tokens(config.get<int64_t>("img_context_num_tokens", 256)),
      action_features(config.get<int64_t>("action_features", 0)),
      actions_per_latent_frame(config.get<int64_t>("actions_per_latent_frame", 0)) {
  block.num_attention_heads = config.get<int64_t>("num_attention_heads", 32);
  block.attention_head_dim = config.get<int64_t>("attention_head_dim", 128);
  block.mlp_ratio = config.get<double>("mlp_ratio", 4.0);
  block.text_embed_dim = config.get<int64_t>("text_embed_dim", 1024);
  block.adaln_lora_dim = config.get<int64_t>("adaln_lora_dim", 256);
  block.qk_norm_eps = config.get<double>("qk_norm_eps", block.qk_norm_eps);
  block.weight_form = layers::weight_form(config);
  block.attention_form = layers::attention_form(config);
  block.img_context = img_context_dim_in > 0;
  grid.max_size = three(config, "max_size", grid.max_size);
  grid.patch_size = three(config, "patch_size", grid.patch_size);
  grid.rope_scale = config.get<std::vector<double>>("rope_scale", grid.rope_scale);
}

CosmosContextProjection::CosmosContextProjection(const Weights& weights, int64_t in_features, int64_t out_features)
    : linear_(weights.sub("0"), in_features, out_features, /*bias=*/true) {}

at::Tensor CosmosContextProjection::operator()(const at::Tensor& context) const {
  return at::gelu(linear_(context));
}

CosmosTransformer3DModel::CosmosTransformer3DModel(const Config& config, const Weights& weights)
    : config_(config),
      device_(weights.device()),
      patch_embed(weights.sub("patch_embed"), config_.in_channels + (config_.concat_padding_mask ? 1 : 0),
                  config_.block.width(), config_.grid.patch_size),
      time_embed(weights.sub("time_embed"), config_.block.width()),
      transformer_blocks(config, weights, config_.num_layers,
                         [sizes = config_.block](const Weights& from, int64_t i) {
                           return CosmosTransformerBlock(from.sub("transformer_blocks", i), sizes);
                         }),
      norm_out(weights.sub("norm_out"), config_.block, 2),
      proj_out(weights.sub("proj_out"), config_.block.width(), patch_volume(config_) * config_.out_channels,
               /*bias=*/false) {
  if (config_.learnable_pos_embed)
    learnable_pos_embed.emplace(weights.sub("learnable_pos_embed"), config_.block.width(), config_.grid);
  if (config_.use_crossattn_projection)
    crossattn_proj = CosmosContextProjection(weights.sub("crossattn_proj"), config_.crossattn_proj_in_channels,
                                             config_.encoder_hidden_states_channels);
  if (config_.img_context_dim_in > 0)
    img_context_proj =
        CosmosContextProjection(weights.sub("img_context_proj"), config_.img_context_dim_in, config_.img_context_dim_out);
  if (config_.action_features > 0)
    action_embedder =
        CosmosActionEmbedding(weights, config_.action_features, config_.block.width(), config_.actions_per_latent_frame);
}

std::unique_ptr<CosmosContext> CosmosTransformer3DModel::make_context(const ContextInputs& inputs,
                                                                      at::IntArrayRef shape) const {
  auto context = std::make_unique<CosmosContext>();
  const TokenGrid grid = patch_embed.grid(shape);
  context->rotary = cosmos_rotary(config_.grid, config_.block.attention_head_dim, grid, inputs.fps).to(device_);
  if (learnable_pos_embed) context->extra_pos_emb = (*learnable_pos_embed)(grid);
  if (inputs.text_mask.defined()) context->text_mask = inputs.text_mask.to(at::kBool).unsqueeze(1).unsqueeze(1);

  context->extra_channels = extra_channels(inputs.condition_mask, inputs.padding_mask, shape);
  if (inputs.actions.defined() != action_embedder.defined())
    throw Error(ErrorKind::kArgument,
                {.place = class_name() + ": actions",
                 .what = action_embedder.defined() ? "are needed and lack" : "cannot be used by this network"});
  if (inputs.actions.defined()) context->actions = action_embedder(inputs.actions, grid.t, inputs.condition_mask);

  context->cross_keys = cross_keys(inputs.text, inputs.image);
  return context;
}

std::vector<CosmosCrossKeys> CosmosTransformer3DModel::cross_keys(const at::Tensor& given_text,
                                                                  const at::Tensor& given_image) const {
  const at::Tensor text = crossattn_proj.defined() ? crossattn_proj(given_text) : given_text;
  const at::Tensor image = given_image.defined() && img_context_proj.defined() ? img_context_proj(given_image) : given_image;
  std::vector<CosmosCrossKeys> keys;
  transformer_blocks.for_each(
      [&](const CosmosTransformerBlock& block, size_t) { keys.push_back(block.cross_keys(text, image)); });
  return keys;
}

void CosmosTransformer3DModel::at_frame(CosmosContext& context, at::IntArrayRef shape, int64_t frame,
                                        const at::Tensor& actions, bool known) const {
  context.rotary = cosmos_rotary(config_.grid, config_.block.attention_head_dim, patch_embed.grid(shape), /*fps=*/0,
                                 /*first_frame=*/frame)
                       .to(device_);
  context.extra_channels = extra_channels(
      at::full({shape[0], 1, 1, shape[3], shape[4]}, known ? 1 : 0, at::device(device_).dtype(at::kFloat)), {}, shape);
  context.actions = actions.defined() ? action_embedder.of_frame(actions) : CosmosTimeEmbedding();
}

// What stands beside the latents as channels of the input, [B,·,t,h,w]; undefined where nothing does.
at::Tensor CosmosTransformer3DModel::extra_channels(const at::Tensor& condition_mask, const at::Tensor& padding_mask,
                                                    at::IntArrayRef shape) const {
  std::vector<at::Tensor> channels;
  if (condition_mask.defined()) channels.push_back(condition_mask);
  if (config_.concat_padding_mask)
    channels.push_back(cosmos_padding_channel(
        padding_mask.defined() ? padding_mask : at::zeros({1, 1, shape[3], shape[4]}, at::device(device_).dtype(at::kFloat)),
        shape));
  return channels.empty() ? at::Tensor() : at::cat(channels, 1);
}

void CosmosTransformer3DModel::renew(Context& context, const Conditions& conditions, at::IntArrayRef shape) const {
  auto& cosmos = static_cast<CosmosContext&>(context);
  cosmos.extra_channels = extra_channels(conditions.known_mask, {}, shape);
  if (conditions.actions.defined() && action_embedder.defined())
    cosmos.actions = action_embedder(as_float(conditions.actions), patch_embed.grid(shape).t, conditions.known_mask);
}

std::unique_ptr<Denoiser::Context> CosmosTransformer3DModel::prepare(const Conditions& conditions,
                                                                     at::IntArrayRef shape) const {
  require_text(conditions);
  return make_context({.text = conditions.text,
                       .image = conditions.image,
                       .text_mask = conditions.text_mask,
                       .condition_mask = conditions.known_mask,
                       .actions = as_float(conditions.actions),
                       .fps = conditions.fps},
                      shape);
}

// Of width D and N tokens at once: the residual stream, a normed and a modulated copy, query, key and value before and after
// they are turned, then the inner layer of the feed-forward. The context keeps a key and a value of the text for each block.
int64_t CosmosTransformer3DModel::work_bytes(at::IntArrayRef latents) const {
  const TokenGrid grid = patch_embed.grid(latents);
  const int64_t tokens = latents[0] * grid.t * grid.h * grid.w, width = config_.block.width();
  const double widths = 3 + std::max(6.0, 2 * config_.block.mlp_ratio);
  const int64_t text = 2 * kTextTokens * width * config_.num_layers;
  return static_cast<int64_t>(sizeof(float)) *
         (static_cast<int64_t>(widths * static_cast<double>(tokens * width)) + 2 * text);
}

Latents CosmosTransformer3DModel::forward(const Latents& noisy, const at::Tensor& times, const Context& context) const {
  Latents out;
  out.fps = noisy.fps;
  out.video = look(noisy.video, times, static_cast<const CosmosContext&>(context));
  return out;
}

at::Tensor CosmosTransformer3DModel::look(const at::Tensor& latents, const at::Tensor& times, const CosmosContext& context,
                                          std::vector<at::Tensor>* own) const {
  const at::Tensor input =
      context.extra_channels.defined() ? at::cat({latents, context.extra_channels}, 1) : latents;  // [B,C',t,h,w]
  const int64_t expected = config_.in_channels + (config_.concat_padding_mask ? 1 : 0);
  if (input.size(1) != expected)
    throw Error(ErrorKind::kArgument, {.place = class_name() + ": hidden_states",
                                       .what = "has the wrong number of channels with its masks",
                                       .expected = std::to_string(expected),
                                       .got = std::to_string(input.size(1)),
                                       .hint = "a video2world model needs a condition mask, a text2world model takes none"});
  const TokenGrid grid = patch_embed.grid(latents.sizes());

  at::Tensor hidden_states = patch_embed(input);                        // [B,N,D]
  const CosmosTimeEmbedding time = time_embed(times, context.actions);  // [B,K,·]
  if (own) own->resize(transformer_blocks.size());
  StepCache* cache = own ? nullptr : context.step_cache.get();  // a stream needs the keys of every block
  hidden_states = transformer_blocks.chain(
      std::move(hidden_states), cache, [&](const CosmosTransformerBlock& block, size_t i, const at::Tensor& in) {
        at::Tensor out =
            block.forward(in, context.cross_keys[i], time, context.rotary, context.extra_pos_emb, context.text_mask,
                          context.past.empty() ? at::Tensor() : context.past[i], own ? &(*own)[i] : nullptr);
        if (!context.control_residuals.empty() && i % config_.controlnet_block_every_n == 0)
          out.add_(context.control_residuals.at(i / config_.controlnet_block_every_n));
        return out;
      });
  hidden_states = proj_out(CosmosAdaLayerNormZero::apply(hidden_states, norm_out.modulation(time)));

  // The last dimension is (ph, pw, pt, C): [B,t,h,w,ph,pw,pt,C] → [B,C,t,pt,h,ph,w,pw] → [B,C,T,H,W]
  const auto& patch = config_.grid.patch_size;
  return hidden_states.view({latents.size(0), grid.t, grid.h, grid.w, patch[1], patch[2], patch[0], -1})
      .permute({0, 7, 1, 6, 2, 4, 3, 5})
      .reshape({latents.size(0), config_.out_channels, latents.size(2), latents.size(3), latents.size(4)});
}

TensorMap CosmosTransformer3DModel::call(const std::string& function, const TensorMap& given, const CallOptions&) const {
  const TensorMap inputs = by_this_name(given);
  if (function != "forward")
    throw Error(ErrorKind::kArgument,
                {.place = class_name() + "." + function, .what = "is not known", .expected = "forward"});
  const at::Tensor latents = require_input(inputs, "hidden_states", "transformer.forward").to(at::kFloat);
  const at::Tensor times = cosmos_times(require_input(inputs, "timestep", "transformer.forward"));
  const bool pair = inputs.contains("encoder_hidden_states.0");
  const at::Tensor fps = optional_input(inputs, "fps");
  auto context = make_context(
      {.text = require_input(inputs, pair ? "encoder_hidden_states.0" : "encoder_hidden_states", "transformer.forward")
                   .to(at::kFloat),
       .image = as_float(optional_input(inputs, "encoder_hidden_states.1")),
       .text_mask = optional_input(inputs, "attention_mask"),
       .condition_mask = as_float(optional_input(inputs, "condition_mask")),
       .padding_mask = as_float(optional_input(inputs, "padding_mask")),
       .actions = as_float(optional_input(inputs, "action")),
       .fps = fps.defined() ? fps.to(at::kDouble).item<double>() : 0},
      latents.sizes());
  for (int64_t i = 0;; ++i) {
    const at::Tensor residual = as_float(optional_input(inputs, "block_controlnet_hidden_states." + std::to_string(i)));
    if (!residual.defined()) break;
    context->control_residuals.push_back(residual);
  }
  return {{"sample", look(latents, times, *context)}};
}

at::Tensor cosmos_times(const at::Tensor& timestep) {
  const at::Tensor times = timestep.to(at::kFloat);
  if (times.dim() == 0) return times.view({1, 1});
  if (times.dim() == 1) return times.unsqueeze(1);
  if (times.dim() == 2) return times;
  if (times.dim() == 5) return times.flatten(1);
  std::ostringstream got;
  got << timestep.sizes();
  throw Error(
      ErrorKind::kArgument,
      {.place = "timestep", .what = "has the wrong rank", .expected = "[B], [B,T] or [B,1,T,1,1]", .got = got.str()});
}

}  // namespace orrery::models
