#include "models/wan/wan_vae_networks.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>
#include <utility>

namespace orrery::models {

namespace {

constexpr int64_t kPieceElements = int64_t{16} << 20;  // a level's clips should not hold more: 64 MiB in float32

// Calls `work` with pieces of `x` in the order of time: as many frames as the budget allows, a multiple of `unit`; but two
// at least, since convolutions over time take two frames in two thirds of the time of one and one. Takes `x` over: of what
// has been worked on nothing is kept.
void by_pieces(at::Tensor x, int64_t elements_per_frame, int64_t unit, const std::function<void(at::Tensor)>& work) {
  const int64_t least = unit > 1 ? 1 : 2;
  const int64_t step = std::max(least, kPieceElements / std::max<int64_t>(1, elements_per_frame * unit)) * unit;
  if (x.size(1) <= step) return work(std::move(x));
  std::vector<at::Tensor> pieces = x.split(step, 1);
  for (at::Tensor& piece : pieces) piece = piece.clone();
  x.reset();
  for (at::Tensor& piece : pieces) work(std::exchange(piece, {}));
}

int64_t pixels(const at::Tensor& x) {
  return x.size(0) * x.size(2) * x.size(3);
}

}  // namespace

WanEncoder3d::WanEncoder3d(const Weights& weights, const WanVaeConfig& config)
    : conv_in_(weights.sub("conv_in"), {config.in_channels, config.base_dim}, slots_) {
  const Weights down_blocks = weights.sub("down_blocks");
  int64_t in = config.base_dim, flat = 0;  // `flat` counts the blocks where the checkpoint has no levels
  for (int64_t i = 0; i < config.levels(); ++i) {
    const int64_t out = config.base_dim * config.dim_mult[i];
    const bool down = i + 1 < config.levels(), temporal = config.downsamples_time(i);
    Level& level = levels_.emplace_back();
    level.width = std::max(in, out);
    level.unit = temporal ? 2 : 1;
    if (config.is_residual) {
      level.avg_shortcut = AvgDown3D{.out = out, .factor_t = level.unit, .factor_s = down ? 2 : 1};
    }
    for (int64_t j = 0; j < config.num_res_blocks; ++j) {
      const Weights block = config.is_residual ? down_blocks.sub(std::to_string(i)).sub("resnets", j)
                                               : down_blocks.sub(std::to_string(flat++));
      level.resnets.emplace_back(block, j == 0 ? in : out, out, slots_);
      if (config.attends(i)) {
        level.attentions.emplace_back(down_blocks.sub(std::to_string(flat++)), out);
      }
    }
    if (down) {
      const Weights block = config.is_residual ? down_blocks.sub(std::to_string(i)).sub("downsampler")
                                               : down_blocks.sub(std::to_string(flat++));
      level.downsampler.emplace(block, out, temporal, slots_);
    }
    in = out;
  }
  mid_block_.emplace(weights.sub("mid_block"), in, slots_);
  head_.emplace(weights, in, 2 * config.z_dim, slots_);
}

at::Tensor WanEncoder3d::Level::run(at::Tensor x, CodecCache& cache, bool first) const {
  at::Tensor shortcut = avg_shortcut ? (*avg_shortcut)(x) : at::Tensor();
  for (size_t i = 0; i < resnets.size(); ++i) {
    x = resnets[i](std::move(x), cache);
    if (!attentions.empty()) x = attentions[i](x);
  }
  if (downsampler) x = (*downsampler)(x, cache, first);
  return shortcut.defined() ? shortcut.add_(x) : x;  // not into x: the cache may hold it
}

at::Tensor WanEncoder3d::operator()(const at::Tensor& x, CodecCache& cache, bool first) const {
  at::Tensor clip = x;
  for (size_t i = 0; i < levels_.size(); ++i) {
    const Level& level = levels_[i];
    std::vector<at::Tensor> pieces;
    const int64_t elements = pixels(clip) * level.width;
    by_pieces(std::exchange(clip, {}), elements, first ? 1 : level.unit, [&](at::Tensor piece) {
      if (i == 0) piece = conv_in_(std::move(piece), cache);
      pieces.push_back(level.run(std::move(piece), cache, first));
    });
    clip = pieces.size() == 1 ? pieces.front() : at::cat(pieces, 1);  // [B,T / unit,H/2,W/2,C]
  }
  return (*head_)((*mid_block_)(std::move(clip), cache), cache);
}

WanDecoder3d::WanDecoder3d(const Weights& weights, const WanVaeConfig& config)
    : conv_in_(weights.sub("conv_in"), {config.z_dim, config.decoder_base_dim * config.dim_mult.back()}, slots_) {
  int64_t in = config.decoder_base_dim * config.dim_mult.back();
  mid_block_.emplace(weights.sub("mid_block"), in, slots_);
  for (int64_t i = 0; i < config.levels(); ++i) {
    const int64_t out = config.decoder_base_dim * config.dim_mult[config.levels() - 1 - i];
    const bool up = i + 1 < config.levels(), temporal = config.upsamples_time(i);
    if (i > 0 && !config.is_residual) in /= 2;  // the upsampling before has halved the width
    const Weights block = weights.sub("up_blocks", i);
    Level& level = levels_.emplace_back();
    const int64_t upsampled = config.is_residual ? out : out / 2;
    level.growth = std::max({in, out, up ? upsampled * (temporal ? 8 : 4) : 0});
    for (int64_t j = 0; j <= config.num_res_blocks; ++j) {
      level.resnets.emplace_back(block.sub("resnets", j), j == 0 ? in : out, out, slots_);
    }
    if (up) {
      const Weights upsampler = config.is_residual ? block.sub("upsampler") : block.sub("upsamplers", 0);
      level.upsampler.emplace(upsampler, out, upsampled, temporal, slots_);
      if (config.is_residual) level.avg_shortcut = DupUp3D{.out = out, .factor_t = temporal ? 2 : 1};
    }
    in = out;
  }
  head_.emplace(weights, in, config.out_channels, slots_);
}

at::Tensor WanDecoder3d::Level::run(at::Tensor x, CodecCache& cache, bool first) const {
  const at::Tensor input = avg_shortcut ? x : at::Tensor();
  for (const WanResidualBlock& resnet : resnets) x = resnet(std::move(x), cache);
  if (upsampler) x = (*upsampler)(std::move(x), cache, first);
  if (input.defined()) x.add_((*avg_shortcut)(input, first));
  return x;  // moved out: a copy left in the parameter would live until the whole decoding below has returned
}

void WanDecoder3d::operator()(const at::Tensor& z, CodecCache& cache, bool first, const Sink& sink) const {
  by_pieces(z, pixels(z) * levels_.front().growth, 1, [&](at::Tensor piece) {
    descend(0, (*mid_block_)(conv_in_(std::move(piece), cache), cache), cache, first, sink);
  });
}

void WanDecoder3d::descend(size_t level, at::Tensor x, CodecCache& cache, bool first, const Sink& sink) const {
  if (level == levels_.size()) return sink((*head_)(std::move(x), cache));
  const int64_t elements = pixels(x) * levels_[level].growth;
  if (x.size(1) * elements <= kPieceElements || x.size(1) <= 2) {
    return descend(level + 1, levels_[level].run(std::move(x), cache, first), cache, first, sink);
  }
  by_pieces(std::move(x), elements, 1, [&](at::Tensor piece) {
    descend(level + 1, levels_[level].run(std::move(piece), cache, first), cache, first, sink);
  });
}

}  // namespace orrery::models
