#include "models/cosmos_ar/positions.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

namespace orrery::models {
namespace {

// theta^(-2i/size), in float32 as the reference computes it.
at::Tensor base_frequencies(double theta, int64_t size) {
  const auto exponents = at::arange(0, size, 2, at::kFloat).div_(static_cast<double>(size));
  return at::pow(at::Scalar(theta), exponents).reciprocal_();
}

// YaRN: slow channels are stretched by the scale, fast ones kept, those between blended. `length` is that of the training
// grid.
at::Tensor yarn_frequencies(const at::Tensor& frequencies, const CosmosArConfig& config, int64_t length) {
  if (!config.apply_yarn) return frequencies;
  const double fast = 2 * std::numbers::pi * config.yarn_beta_fast / length;
  const double slow = 2 * std::numbers::pi * config.yarn_beta_slow / length;
  const auto keep = ((frequencies - slow) / (fast - slow)).clamp(0, 1);
  return frequencies * ((1 - keep) / config.yarn_scale + keep);
}

at::Tensor angles(int64_t positions, const at::Tensor& frequencies) {
  return at::outer(at::arange(positions, at::kFloat), frequencies);
}

// Tables over t, h and w side by side for each point of the grid: [t·h·w, a + b + c].
at::Tensor over_grid(const at::Tensor& t, const at::Tensor& h, const at::Tensor& w) {
  const int64_t frames = t.size(0), rows = h.size(0), columns = w.size(0);
  return at::cat({t.view({frames, 1, 1, -1}).expand({frames, rows, columns, -1}),
                  h.view({1, rows, 1, -1}).expand({frames, rows, columns, -1}),
                  w.view({1, 1, columns, -1}).expand({frames, rows, columns, -1})},
                 -1)
      .flatten(0, 2);
}

// A row of zeros for the token that begins a video, and zeros up to a round length.
at::Tensor framed(at::Tensor table, const CosmosArConfig& config) {
  if (config.text_to_video) table = at::constant_pad_nd(table, {0, 0, 1, 0});
  const int64_t over = table.size(0) % config.pad_to_multiple_of;
  return over == 0 ? table : at::constant_pad_nd(table, {0, 0, 0, config.pad_to_multiple_of - over});
}

// sin and cos of positions · 10000^(-2i/size), in float64.
at::Tensor sine_cosine(int64_t positions, int64_t size) {
  const auto exponents = at::arange(size / 2, at::kDouble).div_(size / 2.0);
  const auto turns = at::outer(at::arange(positions, at::kDouble), at::pow(at::Scalar(10000.0), exponents).reciprocal_());
  return at::cat({turns.sin(), turns.cos()}, 1);
}

}  // namespace

ArRotary ArRotary::slice(int64_t begin, int64_t count) const {
  return {cos.narrow(0, begin, count), sin.narrow(0, begin, count), neighbours};
}

at::Tensor ArRotary::operator()(const at::Tensor& heads) const {
  at::Tensor turned;
  if (neighbours) {
    const auto pairs = heads.unflatten(-1, {-1, 2});
    turned = at::stack({-pairs.select(-1, 1), pairs.select(-1, 0)}, -1).flatten(-2);
  } else {
    const auto halves = heads.chunk(2, -1);
    turned = at::cat({-halves[1], halves[0]}, -1);
  }
  const auto dtype = heads.scalar_type();
  return heads * cos.to(dtype).unsqueeze(1) + turned * sin.to(dtype).unsqueeze(1);
}

ArRotary rotary_table(const CosmosArConfig& config) {
  const bool neighbours = config.pytorch_rope_version == "v1";
  const auto& shape = config.video_latent_shape;
  // The magnitude of YaRN is applied by the first version of the reference's code alone.
  const double magnitude =
      neighbours && config.apply_yarn && config.yarn_scale > 1 ? 0.1 * std::log(config.yarn_scale) + 1 : 1;
  at::Tensor table;
  if (config.rope_dim == "1D") {
    table = angles(config.max_seq_len,
                   yarn_frequencies(base_frequencies(config.rope_theta, config.head_dim), config, config.original_seq_len));
    table = neighbours ? table.repeat_interleave(2, 1) : at::cat({table, table}, 1);
  } else {
    const auto& original = config.original_latent_shape;
    const int64_t spatial = config.head_dim / 6 * 2, temporal = config.head_dim - 2 * spatial;
    const auto over_space =
        yarn_frequencies(base_frequencies(config.rope_theta, spatial), config, config.apply_yarn ? original[1] : 1);
    const auto over_time =
        yarn_frequencies(base_frequencies(config.rope_theta, temporal), config, config.apply_yarn ? original[0] : 1);
    table = over_grid(angles(shape[0], over_time), angles(shape[1], over_space), angles(shape[2], over_space));
    table = at::cat({table, table}, 1);
  }
  if (!neighbours) {
    CosmosArConfig framing = config;
    framing.text_to_video = config.text_to_video && config.rope_dim == "3D";
    table = framed(table, framing);
  }
  return {table.cos().mul_(magnitude), table.sin().mul_(magnitude), neighbours};
}

at::Tensor absolute_table(const CosmosArConfig& config) {
  if (!config.apply_abs_pos_emb) return {};
  const auto& shape = config.video_latent_shape;
  const int64_t spatial = config.dim / 6 * 2, temporal = config.dim - 2 * spatial;
  const auto table =
      over_grid(sine_cosine(shape[0], temporal), sine_cosine(shape[1], spatial), sine_cosine(shape[2], spatial));
  return framed(table.to(at::kBFloat16).to(at::kFloat), config);
}

}  // namespace orrery::models
