#include "models/world/world_transformer.h"

#include <ATen/ATen.h>

#include "layers/norm.h"
#include "layers/sinusoid.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr double kLevelScale = 1000;  // levels 0…1 as the noise embedding sees them

// Frame i sees frames i − window + 1 … i: bool [T,T].
at::Tensor window_mask(int64_t frames, int64_t window) {
  const at::Tensor number = at::arange(frames, at::kLong);
  const at::Tensor age = number.unsqueeze(1) - number.unsqueeze(0);
  return age.ge(0).logical_and(age.lt(window));
}

}  // namespace

OrreryWorldTransformer::OrreryWorldTransformer(const Config& config, const Weights& weights)
    : patch_size_(config.get<int64_t>("patch_size", 2)),
      latent_size_(config.get<int64_t>("latent_size", 8)),
      in_channels_(config.get<int64_t>("in_channels", 8)),
      conv_width_(config.get<int64_t>("conv_width", 64)),
      planes_(config.get<int64_t>("planes", 6)),
      flows_(config.get<int64_t>("flows", 0)),
      width_(config.get<int64_t>("width", 160)),
      heads_(config.get<int64_t>("heads", 5)),
      noise_features_(config.get<int64_t>("noise_features", 128)),
      action_features_(config.get<int64_t>("action_features", 19)),
      window_(config.get<int64_t>("window", 16)),
      rope_base_(config.get<double>("rope_base", 1000.0)),
      eps_(config.get<double>("norm_eps", 1e-6)) {
  const int64_t values = conv_width_ * patch_size_ * patch_size_, side = latent_size_ / patch_size_;
  const auto mlp = config.get<int64_t>("mlp_width", 480);
  // These networks are small: weights are widened once, at load, so that a step converts nothing.
  const auto linear = [](const Weights& w, const std::string& name, int64_t in, int64_t out) {
    return layers::Linear(w.sub(name), in, out, /*bias=*/true).widened();
  };
  const auto conv_of = [](const Weights& w, int64_t in, int64_t out) {
    return Conv{w.get("weight", {out, in, 3, 3}).to(at::kFloat), w.get("bias", {out}).to(at::kFloat)};
  };
  const auto conv = [&](const std::string& name, int64_t in, int64_t out) { return conv_of(weights.sub(name), in, out); };
  plane_in = linear(weights, "plane_in", action_features_ + 1, planes_ * latent_size_ * latent_size_);
  conv_in = conv("conv_in", 3 * in_channels_ + planes_, conv_width_);
  conv_stem = conv("conv_stem", conv_width_, conv_width_);
  convs_head.push_back(conv("conv_head", conv_width_, conv_width_));
  const auto head_convs = config.get<int64_t>("head_convs", 1);
  for (int64_t i = 0; i + 1 < head_convs; ++i)
    convs_head.push_back(conv_of(weights.sub("convs_head", i), conv_width_, conv_width_));
  conv_out = conv("conv_out", conv_width_, in_channels_);
  if (flows_ > 0) {
    if (conv_width_ % flows_ != 0)
      throw Error(ErrorKind::kConfig, {.place = class_name() + ": flows",
                                       .what = "does not divide the channels of the convolutions",
                                       .expected = "a divisor of conv_width, " + std::to_string(conv_width_),
                                       .got = std::to_string(flows_)});
    conv_flow = conv("conv_flow", conv_width_, 2 * flows_);
    conv_moved = conv("conv_moved", conv_width_, conv_width_);
  }
  patch_in = linear(weights, "patch_in", values, width_);
  patch_out = linear(weights, "patch_out", width_, values);
  noise_in = linear(weights, "noise_in", noise_features_, width_);
  noise_out = linear(weights, "noise_out", width_, width_);
  action_in = linear(weights, "action_in", action_features_, width_);
  action_out = linear(weights, "action_out", width_, width_);
  final_modulation = linear(weights, "final_modulation", width_, 2 * width_);
  position = weights.get("position", {side * side, width_});
  const auto count = config.get<int64_t>("layers", 4);
  for (int64_t i = 0; i < count; ++i) {
    const Weights w = weights.sub("blocks", i);
    blocks.push_back({linear(w, "modulation", width_, 9 * width_), linear(w, "space_qkv", width_, 3 * width_),
                      linear(w, "space_out", width_, width_), linear(w, "time_qkv", width_, 3 * width_),
                      linear(w, "time_out", width_, width_), linear(w, "mlp_in", width_, mlp),
                      linear(w, "mlp_out", mlp, width_)});
  }
  if (!position.is_cpu()) return;  // inspected, or on a device
  fast_ = std::make_unique<FastTransformer>(TransformerSizes{.patch = patch_size_,
                                                             .side = latent_size_,
                                                             .channels = in_channels_,
                                                             .conv_width = conv_width_,
                                                             .planes = planes_,
                                                             .head_convs = head_convs,
                                                             .flows = flows_,
                                                             .width = width_,
                                                             .heads = heads_,
                                                             .mlp = mlp,
                                                             .layers = count,
                                                             .tokens = side * side,
                                                             .window = window_,
                                                             .action_features = action_features_,
                                                             .rope_base = rope_base_,
                                                             .eps = eps_},
                                            weights);
}

at::Tensor OrreryWorldTransformer::Conv::operator()(const at::Tensor& x) const {
  return at::conv2d(x, weight, bias, /*stride=*/1, /*padding=*/1);
}

// x [N,E,h,w] as seen from elsewhere: each group of channels at each place plus flow [N,2·groups,h,w], x before y, in
// places.
at::Tensor OrreryWorldTransformer::moved(const at::Tensor& x, const at::Tensor& flow) const {
  const int64_t side = latent_size_;
  const at::Tensor shift = flow.reshape({-1, 2, side, side}), step = at::arange(side, flow.options());
  const at::Tensor grid = at::stack({shift.select(1, 0) + step, shift.select(1, 1) + step.unsqueeze(1)}, -1);
  const at::Tensor out = at::grid_sampler_2d(x.reshape({-1, conv_width_ / flows_, side, side}),
                                             grid * (2.0 / static_cast<double>(side - 1)) - 1, /*bilinear*/ 0,
                                             /*border*/ 1, /*align_corners=*/true);
  return out.view(x.sizes());
}

at::Tensor OrreryWorldTransformer::to_tokens(const at::Tensor& latents) const {
  const int64_t batch = latents.size(0), frames = latents.size(1), side = latent_size_ / patch_size_;
  // [B,T,E,ty,p,tx,p] → [B,T,S,E·p·p]
  return latents.reshape({batch, frames, conv_width_, side, patch_size_, side, patch_size_})
      .permute({0, 1, 3, 5, 2, 4, 6})
      .reshape({batch, frames, side * side, -1});
}

at::Tensor OrreryWorldTransformer::from_tokens(const at::Tensor& tokens) const {
  const int64_t batch = tokens.size(0), frames = tokens.size(1), side = latent_size_ / patch_size_;
  return tokens.view({batch, frames, side, side, conv_width_, patch_size_, patch_size_})
      .permute({0, 1, 4, 2, 5, 3, 6})
      .reshape({batch, frames, conv_width_, latent_size_, latent_size_});
}

layers::Rotary OrreryWorldTransformer::angles(int64_t first, int64_t count) const {
  const int64_t half = width_ / heads_ / 2;  // in double, so that worlds may live long
  const at::Tensor frequencies = at::pow(rope_base_, at::arange(half, at::kDouble) / -static_cast<double>(half));
  const at::Tensor turned = at::outer(at::arange(first, first + count, at::kDouble), frequencies);
  return {turned.cos().to(at::kFloat), turned.sin().to(at::kFloat)};
}

at::Tensor OrreryWorldTransformer::condition(const at::Tensor& levels, const at::Tensor& features) const {
  return at::silu(noise_embedding(levels) + action_out(at::silu(action_in(features))));
}

at::Tensor OrreryWorldTransformer::noise_embedding(const at::Tensor& levels) const {
  return noise_out(at::silu(noise_in(layers::sinusoidal_embedding(levels * kLevelScale, noise_features_))));
}

at::Tensor OrreryWorldTransformer::forward(const at::Tensor& hidden_states, const at::Tensor& previous, const Pass& pass,
                                           TimeKeys* keys) const {
  const int64_t batch = hidden_states.size(0), frames = hidden_states.size(1), tokens = position.size(0);
  const int64_t head_dim = width_ / heads_;
  const layers::Rotary rotary = (pass.angles.cos.defined() ? pass.angles : angles(0, frames)).to(position.device());
  const auto mask = pass.past ? std::nullopt : std::optional(window_mask(frames, window_).to(position.device()));
  const auto norm = [&](const at::Tensor& x, const at::Tensor& shift, const at::Tensor& scale) {
    return at::addcmul(shift, layers::layer_norm(x, eps_), scale + 1);
  };

  const at::Tensor condition = this->condition(pass.levels, pass.features);                    // [B,T,D]
  const at::Tensor planes = plane_in(at::cat({pass.features, pass.levels.unsqueeze(-1)}, -1))  // [B,T,Q,h,w]
                                .view({batch, frames, planes_, latent_size_, latent_size_});
  at::Tensor fine = conv_in(at::cat({hidden_states, previous, planes}, 2).flatten(0, 1));  // [B·T,E,h,w]
  fine = fine + conv_stem(at::silu(fine));
  const at::Tensor stem = fine;
  at::Tensor x = patch_in(to_tokens(fine.unflatten(0, {batch, frames}))) + position;  // [B,T,S,D]
  for (size_t i = 0; i < blocks.size(); ++i) {
    const Block& block = blocks[i];
    const auto m =
        block.modulation(condition).unsqueeze(2).chunk(9, -1);  // shift, scale, gate of space, time, MLP: [B,T,1,D]

    auto qkv =
        block.space_qkv(norm(x, m[0], m[1])).view({batch * frames, tokens, 3, heads_, head_dim}).permute({2, 0, 3, 1, 4});
    at::Tensor attended = at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2]);  // [B·T,heads,S,d]
    x = at::addcmul(x, m[2], block.space_out(attended.transpose(1, 2).reshape({batch, frames, tokens, width_})));

    qkv = block.time_qkv(norm(x, m[3], m[4])).view({batch, frames, tokens, 3, heads_, head_dim});
    qkv = qkv.permute({3, 0, 2, 1, 4, 5}).flatten(1, 2);  // [3,B·S,T,heads,d]
    const at::Tensor query = layers::rotate(qkv[0], rotary, layers::RotaryPairs::kHalves).transpose(1, 2);
    const at::Tensor key = layers::rotate(qkv[1], rotary, layers::RotaryPairs::kHalves).transpose(1, 2);
    at::Tensor seen = at::stack({key, qkv[2].transpose(1, 2)});  // [2,B·S,heads,T,d]
    if (keys) keys->push_back(seen);
    if (pass.past && !pass.past->empty()) seen = at::cat({(*pass.past)[i], seen}, 3);
    attended = at::scaled_dot_product_attention(query, seen[0], seen[1], mask);  // [B·S,heads,T,d]
    attended = attended.view({batch, tokens, heads_, frames, head_dim}).permute({0, 3, 1, 2, 4}).reshape(x.sizes());
    x = at::addcmul(x, m[5], block.time_out(attended));

    at::Tensor inner = block.mlp_in(norm(x, m[6], m[7]));
    x = at::addcmul(x, m[8], block.mlp_out(at::gelu_(inner, "tanh")));
  }
  const auto m = final_modulation(condition).unsqueeze(2).chunk(2, -1);
  fine = fine + from_tokens(patch_out(norm(x, m[0], m[1]))).flatten(0, 1);
  if (conv_flow) fine = fine + (*conv_moved)(at::silu(moved(stem, (*conv_flow)(at::silu(fine)))));
  for (const Conv& conv : convs_head) fine = fine + conv(at::silu(fine));
  return previous.narrow(2, 0, in_channels_) + conv_out(at::silu(fine)).view(hidden_states.sizes());
}

TensorMap OrreryWorldTransformer::call(const std::string& function, const TensorMap& inputs, const CallOptions&) const {
  if (function != "forward")
    throw Error(ErrorKind::kArgument,
                {.place = class_name() + "." + function, .what = "is not known", .expected = "forward"});
  const std::string name = "transformer.forward";
  const Pass pass{.levels = require_input(inputs, "timestep", name),
                  .features = require_input(inputs, "action_features", name)};
  return {{"sample",
           forward(require_input(inputs, "hidden_states", name), require_input(inputs, "previous", name), pass, nullptr)}};
}

std::unique_ptr<Component> build_orrery_world_transformer(const Config& config, const Weights& weights) {
  return std::make_unique<OrreryWorldTransformer>(config, weights);
}

}  // namespace orrery::models
