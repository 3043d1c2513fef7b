#include "models/world/world_tokenizer.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace orrery::models {
namespace {

// Frames fold into the batch: [B,C,T,H,W] → [B·T,C,H,W] and back.
at::Tensor fold_time(const at::Tensor& x) {
  return x.transpose(1, 2).flatten(0, 1);
}
at::Tensor unfold_time(const at::Tensor& x, int64_t batch) {
  return x.unflatten(0, {batch, -1}).transpose(1, 2).contiguous();
}

std::vector<int64_t> reversed(std::vector<int64_t> values) {
  std::reverse(values.begin(), values.end());
  return values;
}

}  // namespace

OrreryTokenizer::OrreryTokenizer(const Config& config, const Weights& weights)
    : sample_size_(config.get<int64_t>("sample_size", 64)),
      norm_groups_(config.get<int64_t>("norm_groups", 8)),
      norm_eps_(config.get<double>("norm_eps", 1e-5)) {
  const auto widths = config.get<std::vector<int64_t>>("widths", {32, 64, 128});
  const auto channels = config.get<int64_t>("latent_channels", 8);
  spec_ = {
      .spatial_stride = sample_size_ / config.get<int64_t>("latent_size", 8), .latent_channels = channels, .image = true};
  if (const auto mean = config.find<std::vector<double>>("latents_mean")) {
    normalization_.mean = at::tensor(*mean, at::kFloat).to(weights.device());
    normalization_.std = at::tensor(config.require<std::vector<double>>("latents_std"), at::kFloat).to(weights.device());
  }
  constexpr int64_t kUnshuffled = 12;  // 3 colours of 2x2 pixels
  encoder = read(weights.sub("encoder"), kUnshuffled, channels, widths,
                 config.get<std::vector<int64_t>>("encoder_blocks", {1, 1, 2}), /*up=*/false);
  decoder = read(weights.sub("decoder"), channels, kUnshuffled, reversed(widths),
                 reversed(config.get<std::vector<int64_t>>("decoder_blocks", {1, 2, 2})), /*up=*/true);
}

OrreryTokenizer::Network OrreryTokenizer::read(const Weights& weights, int64_t in_channels, int64_t out_channels,
                                               const std::vector<int64_t>& widths, const std::vector<int64_t>& blocks,
                                               bool up) const {
  const auto conv = [](const Weights& w, int64_t in, int64_t out, int64_t kernel) {
    return Conv{w.get("weight", {out, in, kernel, kernel}), w.get("bias", {out})};
  };
  const auto norm = [](const Weights& w, int64_t width) { return Norm{w.get("weight", {width}), w.get("bias", {width})}; };
  Network network;
  network.conv_in = conv(weights.sub("conv_in"), in_channels, widths.front(), 3);
  for (size_t i = 0; i < widths.size(); ++i) {
    const Weights level = weights.sub("levels", static_cast<int64_t>(i));
    Level made;
    if (i > 0)
      made.resample =
          up ? conv(level.sub("up"), widths[i - 1], 4 * widths[i], 1) : conv(level.sub("down"), widths[i - 1], widths[i], 3);
    for (int64_t j = 0; j < blocks[i]; ++j) {
      const Weights block = level.sub("blocks", j);
      made.blocks.push_back({norm(block.sub("norm1"), widths[i]), norm(block.sub("norm2"), widths[i]),
                             conv(block.sub("conv1"), widths[i], widths[i], 3),
                             conv(block.sub("conv2"), widths[i], widths[i], 3)});
    }
    network.levels.push_back(std::move(made));
  }
  network.norm_out = norm(weights.sub("norm_out"), widths.back());
  network.conv_out = conv(weights.sub("conv_out"), widths.back(), out_channels, 3);
  return network;
}

at::Tensor OrreryTokenizer::normalised(const Norm& norm, const at::Tensor& x) const {
  at::Tensor y = at::group_norm(x, norm_groups_, norm.weight, norm.bias, norm_eps_, /*cudnn_enabled=*/false);
  return at::silu_(y);
}

at::Tensor OrreryTokenizer::residual(const ResBlock& block, const at::Tensor& x) const {
  const at::Tensor y = at::conv2d(normalised(block.norm1, x), block.conv1.weight, block.conv1.bias, 1, 1);
  return at::conv2d(normalised(block.norm2, y), block.conv2.weight, block.conv2.bias, 1, 1).add_(x);
}

at::Tensor OrreryTokenizer::run(const Network& network, at::Tensor x, bool up) const {
  x = at::conv2d(x, network.conv_in.weight, network.conv_in.bias, 1, 1);
  for (const Level& level : network.levels) {
    if (level.resample && up) x = at::pixel_shuffle(at::conv2d(x, level.resample->weight, level.resample->bias), 2);
    if (level.resample && !up) x = at::conv2d(x, level.resample->weight, level.resample->bias, 2, 1);
    for (const ResBlock& block : level.blocks) x = residual(block, x);
  }
  return at::conv2d(normalised(network.norm_out, x), network.conv_out.weight, network.conv_out.bias, 1, 1);
}

Encoded OrreryTokenizer::encode_chunk(const at::Tensor& sample, CodecCache&, bool) const {
  // [B,3,T,H,W] → [B·T,12,H/2,W/2] → [B·T,C,h,w] → [B,C,T,h,w]
  const at::Tensor x = run(encoder, at::pixel_unshuffle(fold_time(sample), 2), /*up=*/false);
  return {unfold_time(at::tanh(x), sample.size(0)), {}};
}

at::Tensor OrreryTokenizer::decode_chunk(const at::Tensor& latent, CodecCache&, bool) const {
  return unfold_time(at::pixel_shuffle(run(decoder, fold_time(latent), /*up=*/true), 2), latent.size(0));
}

std::unique_ptr<Component> build_orrery_tokenizer(const Config& config, const Weights& weights) {
  return std::make_unique<OrreryTokenizer>(config, weights);
}

}  // namespace orrery::models
