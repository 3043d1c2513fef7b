#include "models/oasis/dit.h"

#include <ATen/ATen.h>

#include <numbers>
#include <sstream>

#include "layers/norm.h"
#include "layers/sinusoid.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr double kNormEps = 1e-6;
constexpr int64_t kTimeFeatures = 256;
constexpr double kTopFrequency = 128;  // of the picture's rotary angles: max_freq 256, halved

// Stored under the network's own name, or, where shared tensors are written once, under the first block's.
at::Tensor frequencies(const Weights& weights, const std::string& kind, int64_t count, const at::Tensor& computed) {
  at::Tensor stored = weights.find(kind + "_rotary_emb.freqs", {count});
  if (!stored.defined()) stored = weights.find("blocks.0." + kind.substr(0, 1) + "_attn.rotary_emb.freqs", {count});
  return stored.defined() ? stored.to(at::kFloat) : computed.to(weights.device());
}

}  // namespace

DiT::DiT(const Config& config, const Weights& weights)
    : input_h_(config.get<int64_t>("input_h", 18)),
      input_w_(config.get<int64_t>("input_w", 32)),
      patch_size_(config.get<int64_t>("patch_size", 2)),
      in_channels_(config.get<int64_t>("in_channels", 16)),
      width_(config.get<int64_t>("hidden_size", 1024)),
      heads_(config.get<int64_t>("num_heads", 16)),
      external_cond_dim_(config.get<int64_t>("external_cond_dim", 25)),
      max_frames_(config.get<int64_t>("max_frames", 32)),
      x_embedder_weight(weights.get("x_embedder.proj.weight", {width_, in_channels_, patch_size_, patch_size_})),
      x_embedder_bias(weights.get("x_embedder.proj.bias", {width_})),
      t_embedder_in(weights.sub("t_embedder.mlp.0"), kTimeFeatures, width_, /*bias=*/true),
      t_embedder_out(weights.sub("t_embedder.mlp.2"), width_, width_, /*bias=*/true),
      final_linear(weights.sub("final_layer.linear"), width_, patch_size_ * patch_size_ * in_channels_, /*bias=*/true),
      final_modulation(weights.sub("final_layer.adaLN_modulation.1"), width_, 2 * width_, /*bias=*/true) {
  if (external_cond_dim_ > 0)
    external_cond = layers::Linear(weights.sub("external_cond"), external_cond_dim_, width_, /*bias=*/true);
  const int64_t head_dim = width_ / heads_;
  spatial_freqs = frequencies(weights, "spatial", head_dim / 4,
                              at::linspace(1.0, kTopFrequency, head_dim / 4, at::kFloat) * std::numbers::pi);
  temporal_freqs =
      frequencies(weights, "temporal", head_dim / 2,
                  at::pow(10000.0, at::arange(0, head_dim, 2, at::kFloat) / static_cast<double>(head_dim)).reciprocal());
  const auto depth = config.get<int64_t>("depth", 16);
  for (int64_t i = 0; i < depth; ++i) {
    const Weights block = weights.sub("blocks", i);
    blocks.push_back({read_half(block, "s"), read_half(block, "t")});
    block.ignore("s_attn.rotary_emb");
    block.ignore("t_attn.rotary_emb");
  }
}

DiT::Half DiT::read_half(const Weights& block, const std::string& letter) const {
  return {RotaryAttention(block.sub(letter + "_attn"), "to_qkv", "to_out", width_, heads_, /*qkv_bias=*/false),
          layers::Linear(block.sub(letter + "_mlp.fc1"), width_, 4 * width_, /*bias=*/true),
          layers::Linear(block.sub(letter + "_mlp.fc2"), 4 * width_, width_, /*bias=*/true),
          layers::Linear(block.sub(letter + "_adaLN_modulation.1"), width_, 6 * width_, /*bias=*/true)};
}

at::Tensor DiT::forward(const at::Tensor& x, const at::Tensor& times, const at::Tensor& actions, const TimeKeys& past,
                        TimeKeys* seen) const {
  const int64_t batch = x.size(0), frames = x.size(1);
  const at::Tensor patches = at::conv2d(x.flatten(0, 1), x_embedder_weight, x_embedder_bias, patch_size_);  // [B·T,D,ty,tx]
  const int64_t rows = patches.size(2), columns = patches.size(3), places = rows * columns;
  const layers::Rotary in_frame = picture_rotary(spatial_freqs, rows, columns, width_ / heads_ / 2);
  const int64_t first = past.empty() ? 0 : past.front().size(2);
  const at::Tensor angles = at::outer(at::arange(first, first + frames, temporal_freqs.options()), temporal_freqs);
  const layers::Rotary over_time{angles.cos(), angles.sin()};

  at::Tensor condition =
      t_embedder_out(at::silu(t_embedder_in(layers::sinusoidal_embedding(times, kTimeFeatures))));  // [B,T,D]
  if (actions.defined()) condition = condition + external_cond(actions);
  condition = at::silu(condition);

  at::Tensor tokens = patches.flatten(2).transpose(1, 2).reshape({batch, frames * places, width_});  // [B,T·S,D]
  // One half of a block: its attention over space or time, then its MLP, each shifted, scaled and gated by frame.
  const auto half = [&](const Half& part, const auto& attend) {
    const auto m = part.adaLN_modulation(condition).chunk(6, -1);  // shift, scale, gate; shift, scale, gate: [B,T,D]
    tokens = layers::gated_residual(tokens, attend(layers::modulated_norm(tokens, kNormEps, m[0], m[1])), m[2]);
    const at::Tensor inner = part.fc1(layers::modulated_norm(tokens, kNormEps, m[3], m[4]));
    tokens = layers::gated_residual(tokens, part.fc2(at::gelu(inner, "tanh")), m[5]);
  };
  if (seen) seen->assign(blocks.size(), {});
  for (size_t i = 0; i < blocks.size(); ++i) {
    half(blocks[i].space, [&](const at::Tensor& normed) {
      return blocks[i].space.attn.everywhere(normed.view({batch * frames, places, width_}), in_frame).view(normed.sizes());
    });
    half(blocks[i].time, [&](const at::Tensor& normed) {
      // [B,T·S,D] → [B·S,T,D] and back
      const at::Tensor lanes =
          normed.view({batch, frames, places, width_}).transpose(1, 2).reshape({batch * places, frames, width_});
      const at::Tensor attended =
          blocks[i].time.attn.causal(lanes, over_time, past.empty() ? at::Tensor() : past[i], seen ? &(*seen)[i] : nullptr);
      return attended.view({batch, places, frames, width_}).transpose(1, 2).reshape(normed.sizes());
    });
  }
  const auto m = final_modulation(condition).chunk(2, -1);
  tokens = final_linear(layers::modulated_norm(tokens, kNormEps, m[0], m[1]));
  // [B,T,ty,tx,P,P,C] → [B,T,C,ty,P,tx,P] → [B,T,C,h,w]
  return tokens.view({batch, frames, rows, columns, patch_size_, patch_size_, in_channels_})
      .permute({0, 1, 6, 2, 4, 3, 5})
      .reshape(x.sizes());
}

TensorMap DiT::call(const std::string& function, const TensorMap& inputs, const CallOptions&) const {
  if (function != "forward")
    throw Error(ErrorKind::kArgument,
                {.place = class_name() + "." + function, .what = "is not known", .expected = "forward"});
  const std::string name = "transformer.forward";
  const at::Tensor x = require_input(inputs, "x", name).to(at::kFloat);
  const at::Tensor times = require_input(inputs, "t", name).to(at::kFloat);
  const auto given = inputs.find("external_cond");
  const at::Tensor actions = given == inputs.end() ? at::Tensor() : given->second.to(at::kFloat);
  const auto wrong = [&](const char* what, const std::string& expected, const at::Tensor& got) {
    std::ostringstream shape;
    shape << got.sizes();
    return Error(ErrorKind::kArgument,
                 {.place = name + ": " + what, .what = "has the wrong shape", .expected = expected, .got = shape.str()});
  };
  if (x.dim() != 5 || x.size(2) != in_channels_ || x.size(3) % patch_size_ || x.size(4) % patch_size_)
    throw wrong(
        "x",
        "[B,T," + std::to_string(in_channels_) + ",h,w] with sides that are multiples of " + std::to_string(patch_size_), x);
  if (times.dim() != 2 || times.size(0) != x.size(0) || times.size(1) != x.size(1)) throw wrong("t", "[B,T]", times);
  if (actions.defined() && (actions.dim() != 3 || actions.size(1) != x.size(1) || actions.size(2) != external_cond_dim_))
    throw wrong("external_cond", "[B,T," + std::to_string(external_cond_dim_) + "]", actions);
  return {{"sample", forward(x, times, actions, {}, nullptr)}};
}

std::unique_ptr<Component> build_oasis_dit(const Config& config, const Weights& weights) {
  return std::make_unique<DiT>(config, weights);
}

}  // namespace orrery::models
