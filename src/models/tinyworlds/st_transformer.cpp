#include "models/tinyworlds/st_transformer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "layers/norm.h"

namespace orrery::models {
namespace {

constexpr double kEps = 1e-5;

// sin and cos of i / 10000^(2j/size), beside each other: [count,size]
at::Tensor sine_cosine(int64_t count, int64_t size) {
  const auto exponents = at::arange(size / 2, at::kFloat) * 2 / static_cast<double>(size);
  const auto turns = at::arange(count, at::kFloat).unsqueeze(1) / at::pow(at::Scalar(10000.0), exponents);
  return at::stack({turns.sin(), turns.cos()}, -1).flatten(1);
}

int64_t even(int64_t number) {
  return number / 2 * 2;
}

}  // namespace

TinyWorldConfig TinyWorldConfig::from(const Config& config) {
  TinyWorldConfig c;
  c.frame_size = config.get("frame_size", c.frame_size);
  c.patch_size = config.get("patch_size", c.patch_size);
  c.embed_dim = config.get("embed_dim", c.embed_dim);
  c.num_heads = config.get("num_heads", c.num_heads);
  c.num_blocks = config.get("num_blocks", c.num_blocks);
  c.latent_dim = config.get("latent_dim", c.latent_dim);
  c.num_bins = config.get("num_bins", c.num_bins);
  c.action_dim = config.get("conditioning_dim", c.action_dim);
  config.check(c.num_blocks > 0, "num_blocks", "a number above 0");
  config.check(c.num_heads > 0 && c.embed_dim > 0 && c.embed_dim % c.num_heads == 0, "num_heads", "a divisor of embed_dim");
  config.check(even(c.embed_dim) == c.embed_dim, "embed_dim", "an even number");
  config.check(c.patch_size > 0 && c.frame_size > 0 && c.frame_size % c.patch_size == 0, "patch_size",
               "a divisor of frame_size");
  const double codes = std::pow(static_cast<double>(c.num_bins), static_cast<double>(c.latent_dim));
  config.check(c.num_bins > 1 && c.latent_dim > 0 && codes < 0x1p31, "num_bins", "2 or more, and fewer than 2^31 codes");
  config.check(!config.get("use_moe", false), "use_moe", "false: mixtures of experts are not known");
  return c;
}

TinyNorm::TinyNorm(const Weights& weights, const TinyWorldConfig& config) {
  if (config.action_dim > 0)
    to_gamma_beta_ = layers::Linear(weights.sub("to_gamma_beta.1"), config.action_dim, 2 * config.embed_dim, true);
  else
    gain_ = weights.get("rms.weight", {config.embed_dim});
}

at::Tensor TinyNorm::operator()(const at::Tensor& x, const at::Tensor& actions) const {
  if (gain_.defined()) return layers::rms_norm(x, gain_, kEps);
  const auto normed = layers::layer_norm(x, kEps);
  if (!actions.defined()) return normed;
  auto by_action = to_gamma_beta_(at::silu(actions)).unsqueeze(2);  // [B,T or T − 1,1,2E]
  if (by_action.size(1) == x.size(1) - 1) by_action = at::constant_pad_nd(by_action, {0, 0, 0, 0, 1, 0});
  const auto parts = by_action.chunk(2, -1);
  return normed * (1 + parts[0]) + parts[1];
}

TinyAttention::TinyAttention(const Weights& weights, const TinyWorldConfig& config, bool over_time)
    : heads_(config.num_heads), over_time_(over_time), norm_(weights.sub("norm"), config) {
  const auto linear = [&](const char* name) {
    return layers::Linear(weights.sub(name), config.embed_dim, config.embed_dim, true);
  };
  q_proj_ = linear("q_proj");
  k_proj_ = linear("k_proj");
  v_proj_ = linear("v_proj");
  out_proj_ = linear("out_proj");
}

at::Tensor TinyAttention::operator()(const at::Tensor& x, const at::Tensor& actions) const {
  const auto among = over_time_ ? x.transpose(1, 2) : x;  // [B,·,n,E]
  const auto heads = [&](const layers::Linear& linear) {
    return linear(among).unflatten(-1, {heads_, -1}).transpose(2, 3).flatten(0, 1);
  };
  const auto seen = at::scaled_dot_product_attention(heads(q_proj_), heads(k_proj_), heads(v_proj_), {}, 0.0, over_time_);
  const auto out = out_proj_(seen.transpose(1, 2).flatten(2).view(among.sizes()));
  return norm_(x + (over_time_ ? out.transpose(1, 2) : out), actions);
}

TinyFeedForward::TinyFeedForward(const Weights& weights, const TinyWorldConfig& config)
    : norm_(weights.sub("norm"), config) {
  const auto shape = weights.shape("w_v.weight");
  hidden_ = shape && shape->size() == 2 ? (*shape)[0] : 0;
  w_v_ = layers::Linear(weights.sub("w_v"), config.embed_dim, hidden_, true);
  w_g_ = layers::Linear(weights.sub("w_g"), config.embed_dim, hidden_, true);
  w_o_ = layers::Linear(weights.sub("w_o"), hidden_, config.embed_dim, true);
}

at::Tensor TinyFeedForward::operator()(const at::Tensor& x, const at::Tensor& actions) const {
  return norm_(x + w_o_(at::silu(w_v_(x)).mul_(w_g_(x))), actions);
}

TinyTransformer::TinyTransformer(const Weights& weights, const TinyWorldConfig& config)
    : embed_dim_(config.embed_dim), temporal_dim_(even(config.embed_dim / 3)) {
  for (int64_t i = 0; i < config.num_blocks; ++i) {
    const Weights block = weights.sub("blocks", i);
    blocks_.push_back({TinyAttention(block.sub("spatial_attn"), config, false),
                       TinyAttention(block.sub("temporal_attn"), config, true), TinyFeedForward(block.sub("ffn"), config)});
  }
}

int64_t TinyTransformer::width_at_once() const {
  return 3 * embed_dim_ + std::max(5 * embed_dim_, blocks_.empty() ? 0 : 2 * blocks_.front().ffn.hidden());
}

at::Tensor TinyTransformer::operator()(at::Tensor x, const at::Tensor& actions) const {
  const auto time = at::constant_pad_nd(sine_cosine(x.size(1), temporal_dim_), {x.size(3) - temporal_dim_, 0});  // [T,E]
  x = x + time.unsqueeze(1).to(x.device());
  for (const Block& block : blocks_) x = block.ffn(block.temporal_attn(block.spatial_attn(x, actions), actions), actions);
  return x;
}

at::Tensor tiny_positions(const TinyWorldConfig& config) {
  const int64_t side = config.side(), temporal = even(config.embed_dim / 3), spatial = config.embed_dim - temporal;
  const int64_t columns = even(spatial / 2), rows = spatial - columns;
  const auto x = sine_cosine(side, columns).unsqueeze(0).expand({side, side, columns});
  const auto y = sine_cosine(side, rows).unsqueeze(1).expand({side, side, rows});
  return at::cat({x, y, at::zeros({side, side, temporal}, at::kFloat)}, -1).flatten(0, 1);
}

}  // namespace orrery::models
