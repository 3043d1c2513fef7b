#include "models/wan/causal_wan_model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <sstream>

#include "layers/attention.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr int64_t kUnlimitedWindow =
    21;  // latent frames of the clips it was trained on: the reference's cache when none is set

// The network's own config, by diffusers' names.
Config network_config(const Config& config) {
  const auto dim = config.get<int64_t>("dim", 1536), heads = config.get<int64_t>("num_heads", 12);
  const bool picture = config.get<std::string>("model_type", "t2v") == "i2v";
  return layers::in_forms_of(Config(), config)
      .with("_stream_from", config.get<std::string>("_stream_from", ""))
      .with("patch_size", config.get<std::vector<int64_t>>("patch_size", {1, 2, 2}))
      .with("num_attention_heads", heads)
      .with("attention_head_dim", dim / heads)
      .with("in_channels", config.get<int64_t>("in_dim", picture ? 36 : 16))
      .with("out_channels", config.get<int64_t>("out_dim", 16))
      .with("text_dim", picture ? int64_t{0} : config.get<int64_t>("text_dim", 4096))
      .with("image_dim", picture ? config.get<int64_t>("image_dim", 1280) : int64_t{0})
      .with("freq_dim", config.get<int64_t>("freq_dim", 256))
      .with("ffn_dim", config.get<int64_t>("ffn_dim", 8960))
      .with("num_layers", config.get<int64_t>("num_layers", 30))
      .with("cross_attn_norm", config.get<bool>("cross_attn_norm", true))
      .with("eps", config.get<double>("eps", 1e-6));
}

// `keys` [2,…,N,heads,d] with N cut along `axis` to the first `sink` and the newest, `limit` in all.
at::Tensor trimmed(const at::Tensor& keys, int64_t axis, int64_t sink, int64_t limit) {
  const int64_t excess = keys.size(axis) - limit;
  if (excess <= 0) return keys;
  if (sink == 0) return keys.slice(axis, excess);
  return at::cat({keys.slice(axis, 0, sink), keys.slice(axis, sink + excess)}, axis);
}

at::Tensor joined(const at::Tensor& past, const at::Tensor& own, int64_t axis) {
  return past.defined() ? at::cat({past, own}, axis) : own;
}

// A batch given as one tensor, or as a list of its items.
at::Tensor batch_input(const TensorMap& inputs, const std::string& name, const std::string& call) {
  std::vector<at::Tensor> items;
  while (inputs.contains(name + "." + std::to_string(items.size())))
    items.push_back(inputs.at(name + "." + std::to_string(items.size())));
  return (items.empty() ? require_input(inputs, name, call) : at::stack(items)).to(at::kFloat);
}

at::Tensor optional_input(const TensorMap& inputs, const std::string& name) {
  const auto found = inputs.find(name);
  return found == inputs.end() ? at::Tensor() : found->second.to(at::kFloat);
}

Config action_config_of(const Config& config) {
  return config.has("action_config") ? config.object("action_config") : Config();
}

}  // namespace

CausalWanModel::CausalWanModel(const Config& config, const Weights& weights)
    : action_config_(action_config_of(config)),
      text_len_(config.get<int64_t>("text_len", 512)),
      window_(config.get<int64_t>("local_attn_size", -1)),
      sink_(config.get<int64_t>("sink_size", 0)),
      frames_per_block_(config.get<int64_t>("num_frame_per_block", 3)),
      timestep_shift_(config.get<double>("timestep_shift", 5.0)),
      network_(network_config(config),
               weights.renamed(original_wan_transformer_names(config.get<int64_t>("num_layers", 30)))) {
  if (window_ == -1) window_ = kUnlimitedWindow;
  if (frames_per_block_ < 1 || window_ < sink_ + frames_per_block_)
    throw Error(ErrorKind::kConfig, {.place = config.place() + ": local_attn_size",
                                     .what = "is too small",
                                     .expected = "at least sink_size and a block of " + std::to_string(frames_per_block_),
                                     .got = std::to_string(window_)});
  const bool few =
      !action_config_.blocks.empty() && action_config_.enable_mouse;  // games with a mouse were distilled further
  denoising_steps_ = config.get<std::vector<int64_t>>(
      "denoising_step_list", few ? std::vector<int64_t>{1000, 666, 333} : std::vector<int64_t>{1000, 750, 500, 250});
  for (const int64_t step : denoising_steps_)
    if (step < 1 || step > 1000)
      throw Error(ErrorKind::kConfig, {.place = config.place() + ": denoising_step_list",
                                       .what = "is out of range",
                                       .expected = "1 … 1000",
                                       .got = std::to_string(step)});
  module_of_.resize(network_.config().num_layers);
  for (const int64_t block : action_config_.blocks) {
    if (block < 0 || block >= network_.config().num_layers) continue;  // the reference ignores them too
    module_of_[block] = modules_.size();
    modules_.emplace_back(weights.sub("blocks", block).sub("action_model"), action_config_);
  }
}

std::unique_ptr<WanContext> CausalWanModel::prepare(const at::Tensor& text, const at::Tensor& image) const {
  const auto& sizes = network_.config();
  const bool picture = sizes.text_dim == 0;
  // The rotary angles are made block by block, so the context is made for the smallest shape.
  const std::vector<int64_t> one_token = {1, sizes.in_channels, sizes.patch_size[0], sizes.patch_size[1],
                                          sizes.patch_size[2]};
  const at::Tensor& wanted = picture ? image : text;
  const int64_t width = picture ? sizes.image_dim : sizes.text_dim;
  if (!wanted.defined() || (picture ? text : image).defined() || wanted.dim() != 3 || wanted.size(2) != width)
    throw Error(ErrorKind::kArgument,
                {.place = class_name(),
                 .what = picture ? "needs the embedding of a picture, and no text" : "needs text embeddings, and no picture",
                 .expected = "float [B,L," + std::to_string(width) + "]"});
  if (picture) return network_.make_context({}, image, one_token);
  if (text.size(1) > text_len_)
    throw Error(ErrorKind::kArgument, {.place = class_name() + ": text",
                                       .what = "is too long",
                                       .expected = "at most " + std::to_string(text_len_) + " tokens",
                                       .got = std::to_string(text.size(1))});
  // The reference fills up before it embeds, so the filling is seen.
  return network_.make_context(at::constant_pad_nd(text, {0, 0, 0, text_len_ - text.size(1)}), {}, one_token);
}

at::Tensor CausalWanModel::forward(const at::Tensor& x, const at::Tensor& times, const WanContext& context,
                                   const ActionWindows& actions, CausalWanMemory& memory, bool keep) const {
  const auto& patch = network_.config().patch_size;
  const int64_t frames = x.size(2), places = (x.size(3) / patch[1]) * (x.size(4) / patch[2]), room = window_ - frames;
  if (room < 0)
    throw Error(ErrorKind::kArgument, {.place = class_name(),
                                       .what = "was given more frames than its window has",
                                       .expected = "at most " + std::to_string(window_),
                                       .got = std::to_string(frames)});
  WanMemory pass;
  pass.first_frame = memory.frames;
  if (memory.frames > 0)
    for (const at::Tensor& keys : memory.keys)
      pass.past.push_back(trimmed(keys, 2, std::min(sink_, room) * places, room * places));

  std::vector<ActionModule::Keys> past(modules_.size()), own(modules_.size());
  for (size_t i = 0; i < memory.action_keys.size(); ++i) {
    if (memory.action_keys[i].mouse.defined()) past[i].mouse = trimmed(memory.action_keys[i].mouse, 2, 0, room);
    if (memory.action_keys[i].keyboard.defined()) past[i].keyboard = trimmed(memory.action_keys[i].keyboard, 2, 0, room);
  }
  pass.inject = [&](size_t block, const at::Tensor& hidden_states) {
    const auto& module = module_of_[block];
    return module ? modules_[*module].forward(hidden_states, actions, memory.frames, past[*module], own[*module])
                  : hidden_states;
  };
  const at::Tensor velocity = network_.denoise(x, times, context, &pass);
  if (!keep) return velocity;

  memory.keys.resize(pass.own.size());
  for (size_t i = 0; i < pass.own.size(); ++i)
    memory.keys[i] = joined(pass.past.empty() ? at::Tensor() : pass.past[i], pass.own[i], 2);
  memory.action_keys.resize(own.size());
  for (size_t i = 0; i < own.size(); ++i) {
    if (own[i].mouse.defined()) memory.action_keys[i].mouse = joined(past[i].mouse, own[i].mouse, 2);
    if (own[i].keyboard.defined()) memory.action_keys[i].keyboard = joined(past[i].keyboard, own[i].keyboard, 2);
  }
  memory.frames += frames;
  return velocity;
}

TensorMap CausalWanModel::call(const std::string& function, const TensorMap& inputs, const CallOptions&) const {
  if (function != "forward")
    throw Error(ErrorKind::kArgument,
                {.place = class_name() + "." + function, .what = "is not known", .expected = "forward"});
  const std::string name = "transformer.forward";
  at::Tensor x = batch_input(inputs, "x", name);
  const at::Tensor times = require_input(inputs, "t", name).to(at::kFloat);
  const bool picture = sizes().text_dim == 0;
  const auto context = picture ? prepare({}, require_input(inputs, "visual_context", name).to(at::kFloat))
                               : prepare(batch_input(inputs, "context", name), {});
  if (picture) x = at::cat({x, require_input(inputs, "cond_concat", name).to(at::kFloat)}, 1);
  if (x.dim() != 5 || x.size(1) != sizes().in_channels || times.dim() != 2 || times.size(1) != x.size(2))
    throw Error(ErrorKind::kArgument, {.place = name,
                                       .what = "x and t do not fit the network",
                                       .expected = "x [B," + std::to_string(sizes().in_channels) + ",F,h,w] and t [B,F]"});
  const at::Tensor mouse = optional_input(inputs, "mouse_cond"), keyboard = optional_input(inputs, "keyboard_cond");
  CausalWanMemory memory;
  std::vector<at::Tensor> out;
  for (int64_t first = 0; first < x.size(2); first += frames_per_block_) {
    const int64_t count = std::min(frames_per_block_, x.size(2) - first);
    ActionWindows actions;
    if (mouse.defined()) actions.mouse = action_windows(mouse, action_config_, first, count);
    if (keyboard.defined()) actions.keyboard = action_windows(keyboard, action_config_, first, count);
    out.push_back(
        forward(x.narrow(2, first, count), times.narrow(1, first, count), *context, actions, memory, /*keep=*/true));
  }
  return {{"sample", at::cat(out, 2)}};
}

at::Tensor action_windows(const at::Tensor& actions, const ActionModuleConfig& config, int64_t first, int64_t count) {
  const int64_t stride = config.vae_time_compression_ratio, last = stride * (first + count - 1);
  if (actions.dim() != 3 || actions.size(1) < last)
    throw Error(ErrorKind::kArgument, {.place = "actions",
                                       .what = "are too few",
                                       .expected = "one for each of " + std::to_string(last) + " pixel frames",
                                       .got = std::to_string(actions.dim() == 3 ? actions.size(1) : 0)});
  std::vector<int64_t> frames;  // latent frame j is told of pixel frames stride·j − window … stride·j − 1
  for (int64_t j = first; j < first + count; ++j)
    for (int64_t k = stride * j - config.window(); k < stride * j; ++k) frames.push_back(std::max<int64_t>(k, 0));
  return actions.index_select(1, at::tensor(frames, at::kLong).to(actions.device())).unflatten(1, {count, config.window()});
}

std::unique_ptr<Component> build_causal_wan_model(const Config& config, const Weights& weights) {
  const auto section = config.get<std::string>("_section", "");
  if (section.empty()) return std::make_unique<CausalWanModel>(config, weights);
  for (const char* other : {"generator", "critic", "optimizer", "generator_optimizer", "critic_optimizer"})
    weights.ignore(other);
  return std::make_unique<CausalWanModel>(config, weights.sub(section));
}

}  // namespace orrery::models
