#include "models/wan/wan_transformer_3d_model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "layers/attention.h"
#include "layers/norm.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr int64_t kTextTokens = 512;  // what the reference takes as text where a picture's tokens stand in front

Error shape_error(const std::string& what, const std::string& expected, at::IntArrayRef shape, const std::string& hint) {
  std::ostringstream got;
  got << shape;
  return Error(
      ErrorKind::kArgument,
      {.place = "WanTransformer3DModel: hidden_states", .what = what, .expected = expected, .got = got.str(), .hint = hint});
}

// The tokens along t, h, w.
std::vector<int64_t> token_grid(const WanTransformerConfig& config, at::IntArrayRef shape) {
  std::vector<int64_t> grid;
  for (int axis = 0; axis < 3; ++axis) {
    if (shape[2 + axis] % config.patch_size[axis] != 0)
      throw shape_error("cannot be cut into patches", "sides that are multiples of the patch", shape,
                        "choose a width and height that are multiples of the patch times the stride");
    grid.push_back(shape[2 + axis] / config.patch_size[axis]);
  }
  return grid;
}

// Angles of one axis from position `first` on, in float64 as the reference computes its tables: [count, dim/2]
at::Tensor axis_angles(int64_t first, int64_t count, int64_t dim) {
  const at::Tensor frequencies =
      at::pow(10000.0, at::arange(0, dim, 2, at::kDouble) / static_cast<double>(dim)).reciprocal();
  return at::outer(at::arange(first, first + count, at::kDouble), frequencies);
}

layers::Rotary rotary_of(int64_t head_dim, const std::vector<int64_t>& grid, int64_t first_frame = 0) {
  const int64_t dim_h = 2 * (head_dim / 6), dim_t = head_dim - 2 * dim_h;
  const at::Tensor angles = layers::grid_angles(axis_angles(first_frame, grid[0], dim_t), axis_angles(0, grid[1], dim_h),
                                                axis_angles(0, grid[2], dim_h));
  return {angles.cos().to(at::kFloat), angles.sin().to(at::kFloat)};
}

}  // namespace

WanTransformerConfig::WanTransformerConfig(const Config& config)
    : patch_size(config.get<std::vector<int64_t>>("patch_size", {1, 2, 2})),
      num_attention_heads(config.get<int64_t>("num_attention_heads", 40)),
      attention_head_dim(config.get<int64_t>("attention_head_dim", 128)),
      in_channels(config.get<int64_t>("in_channels", 16)),
      out_channels(config.get<int64_t>("out_channels", config.has("out_channels") ? 16 : in_channels)),
      text_dim(config.get<int64_t>("text_dim", 4096)),
      freq_dim(config.get<int64_t>("freq_dim", 256)),
      ffn_dim(config.get<int64_t>("ffn_dim", 13824)),
      num_layers(config.get<int64_t>("num_layers", 40)),
      cross_attn_norm(config.get<bool>("cross_attn_norm", true)),
      eps(config.get<double>("eps", 1e-6)),
      image_dim(config.get<int64_t>("image_dim", 0)),
      added_kv_proj_dim(config.get<int64_t>("added_kv_proj_dim", 0)),
      pos_embed_seq_len(config.get<int64_t>("pos_embed_seq_len", 0)),
      weight_form(layers::weight_form(config)),
      attention_form(layers::attention_form(config)) {}

WanTransformer3DModel::WanTransformer3DModel(const Config& config, const Weights& weights)
    : config_(config),
      patch_embedding_weight(weights.get(
          "patch_embedding.weight",
          {config_.width(), config_.in_channels, config_.patch_size[0], config_.patch_size[1], config_.patch_size[2]})),
      patch_embedding_bias(weights.get("patch_embedding.bias", {config_.width()})),
      condition_embedder(weights.sub("condition_embedder"), config_),
      blocks(
          config, weights, config_.num_layers,
          [sizes = config_](const Weights& from, int64_t i) { return WanTransformerBlock(from.sub("blocks", i), sizes); }),
      proj_out(weights.sub("proj_out"), config_.width(),
               config_.out_channels * config_.patch_size[0] * config_.patch_size[1] * config_.patch_size[2], /*bias=*/true),
      scale_shift_table(weights.get("scale_shift_table", {1, 2, config_.width()})) {}

std::unique_ptr<WanContext> WanTransformer3DModel::make_context(const at::Tensor& text, const at::Tensor& image,
                                                                at::IntArrayRef shape) const {
  auto context = std::make_unique<WanContext>();
  context->rotary = rotary_of(config_.attention_head_dim, token_grid(config_, shape)).to(patch_embedding_weight.device());
  at::Tensor tokens = text.defined() ? condition_embedder.text(text) : condition_embedder.image(image);
  at::Tensor picture;
  if (image.defined() && text.defined()) {
    if (config_.image_dim == 0)
      throw Error(ErrorKind::kArgument, {.place = "WanTransformer3DModel",
                                         .what = "was given a picture embedding and has no branch for it",
                                         .hint = "leave it out, or use an image-to-video checkpoint"});
    // The reference joins picture and text and counts the text's 512 tokens from the end, whatever their number.
    const int64_t pictures_wanted = tokens.size(0) * (config_.pos_embed_seq_len > 0 ? 2 : 1);
    if (image.size(0) != pictures_wanted)
      throw Error(ErrorKind::kArgument,
                  {.place = "WanTransformer3DModel: pictures",
                   .what = "do not fit the network",
                   .expected = std::to_string(pictures_wanted),
                   .got = std::to_string(image.size(0)),
                   .hint = "a first-and-last-frame (FLF2V) checkpoint takes two, any other takes one"});
    const at::Tensor joined = at::cat({condition_embedder.image(image), tokens}, 1);
    const int64_t pictures = joined.size(1) - kTextTokens;
    if (pictures < 0)
      throw Error(ErrorKind::kArgument, {.place = "WanTransformer3DModel: encoder_hidden_states",
                                         .what = "is too short beside a picture",
                                         .expected = "512 text tokens",
                                         .got = std::to_string(tokens.size(1))});
    picture = joined.narrow(1, 0, pictures);
    tokens = joined.narrow(1, pictures, kTextTokens);
  }
  blocks.for_each(
      [&](const WanTransformerBlock& block, size_t) { context->cross_keys.push_back(block.cross_keys(tokens, picture)); });
  return context;
}

std::unique_ptr<Denoiser::Context> WanTransformer3DModel::prepare(const Conditions& conditions,
                                                                  at::IntArrayRef shape) const {
  require_text(conditions);
  if (config_.image_dim > 0 && !conditions.image.defined())
    throw Error(ErrorKind::kArgument, {.place = class_name(),
                                       .what = "needs a picture's embedding",
                                       .expected = "conditions.image float [B,L,D]",
                                       .got = "none",
                                       .hint = "is the part image_encoder in the folder?"});
  auto context = make_context(conditions.text, conditions.image, shape);
  renew(*context, conditions, shape);
  return context;
}

// Of width D and N tokens at once: the residual stream, a normed and a modulated copy, query, key and value before and after
// they are turned, then the inner layer of the feed-forward. The context keeps a key and a value of the text for each block.
int64_t WanTransformer3DModel::work_bytes(at::IntArrayRef latents) const {
  const auto grid = token_grid(config_, latents);
  const int64_t tokens = latents[0] * grid[0] * grid[1] * grid[2], width = config_.width();
  const int64_t text = 2 * kTextTokens * width * config_.num_layers;
  return static_cast<int64_t>(sizeof(float)) * (tokens * (3 * width + std::max(6 * width, 2 * config_.ffn_dim)) + 2 * text);
}

void WanTransformer3DModel::renew(Context& context, const Conditions& conditions, at::IntArrayRef) const {
  if (config_.in_channels == config_.out_channels) return;
  if (!conditions.known.defined() || !conditions.known_mask.defined())
    throw Error(ErrorKind::kArgument, {.place = class_name(),
                                       .what = "needs a picture to start from",
                                       .hint = "give an image; this is an image-to-video checkpoint"});
  static_cast<WanContext&>(context).extra_channels = at::cat({conditions.known_mask, conditions.known}, 1);
}

Latents WanTransformer3DModel::forward(const Latents& noisy, const at::Tensor& times, const Context& context) const {
  const auto& wan = static_cast<const WanContext&>(context);
  Latents out;
  out.fps = noisy.fps;
  out.video =
      denoise(wan.extra_channels.defined() ? at::cat({noisy.video, wan.extra_channels}, 1) : noisy.video, times, wan);
  return out;
}

at::Tensor WanTransformer3DModel::denoise(const at::Tensor& latents, const at::Tensor& times, const WanContext& context,
                                          WanMemory* memory) const {
  if (latents.size(1) != config_.in_channels)
    throw shape_error("has the wrong number of channels", std::to_string(config_.in_channels), latents.sizes(),
                      "an image-to-video checkpoint takes mask and picture latents beside the noisy ones");
  const auto grid = token_grid(config_, latents.sizes());
  const auto& patch = config_.patch_size;

  at::Tensor hidden_states = at::conv3d(latents, patch_embedding_weight, patch_embedding_bias, patch);  // [B,D,t,h,w]
  hidden_states = hidden_states.flatten(2).transpose(1, 2).contiguous();                                // [B,N,D]
  const at::Tensor temb = condition_embedder.time(times);                                               // [B,K,D]
  const at::Tensor timestep_proj = condition_embedder.modulation(temb);                                 // [B,K,6,D]
  if (memory) memory->own.assign(blocks.size(), {});
  const layers::Rotary rotary =
      memory ? rotary_of(config_.attention_head_dim, grid, memory->first_frame).to(hidden_states.device()) : context.rotary;
  StepCache* cache = memory ? nullptr : context.step_cache.get();  // a stream needs the keys of every block
  hidden_states =
      blocks.chain(std::move(hidden_states), cache, [&](const WanTransformerBlock& block, size_t i, const at::Tensor& in) {
        return block.forward(in, context.cross_keys[i], timestep_proj, rotary, memory, i);
      });

  const auto modulation = (scale_shift_table + temb.unsqueeze(2)).unbind(2);  // shift, scale: [B,K,D]
  hidden_states = proj_out(layers::modulated_norm(hidden_states, config_.eps, modulation[0], modulation[1]));
  // [B,t,h,w,pt,ph,pw,C] → [B,C,t,pt,h,ph,w,pw] → [B,C,T,H,W]
  return hidden_states.view({latents.size(0), grid[0], grid[1], grid[2], patch[0], patch[1], patch[2], -1})
      .permute({0, 7, 1, 4, 2, 5, 3, 6})
      .reshape({latents.size(0), config_.out_channels, latents.size(2), latents.size(3), latents.size(4)});
}

TensorMap WanTransformer3DModel::call(const std::string& function, const TensorMap& inputs, const CallOptions&) const {
  if (function != "forward")
    throw Error(ErrorKind::kArgument,
                {.place = class_name() + "." + function, .what = "is not known", .expected = "forward"});
  const std::string name = "transformer.forward";
  const at::Tensor latents = require_input(inputs, "hidden_states", name).to(at::kFloat);
  at::Tensor times = require_input(inputs, "timestep", name).to(at::kFloat);
  if (times.dim() < 2) times = times.reshape({-1, 1});
  const auto image = inputs.find("encoder_hidden_states_image");
  const auto context = make_context(require_input(inputs, "encoder_hidden_states", name).to(at::kFloat),
                                    image == inputs.end() ? at::Tensor() : image->second.to(at::kFloat), latents.sizes());
  return {{"sample", denoise(latents, times, *context)}};
}

std::unique_ptr<Component> build_wan_transformer_3d_model(const Config& config, const Weights& weights) {
  if (config.get<std::string>("_dialect", "diffusers") != "original")
    return std::make_unique<WanTransformer3DModel>(config, weights);
  const int64_t layers = WanTransformerConfig(config).num_layers;
  return std::make_unique<WanTransformer3DModel>(config, weights.renamed(original_wan_transformer_names(layers)));
}

}  // namespace orrery::models
