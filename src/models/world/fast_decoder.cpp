#include "models/world/fast_decoder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>

#include "ops/workspace.h"

namespace orrery::models {

using ops::Then;

FastDecoder::FastDecoder(const OrreryTokenizer& tokenizer)
    : channels_(tokenizer.spec().latent_channels),
      side_(tokenizer.sample_size() / tokenizer.spec().spatial_stride),
      groups_(tokenizer.norm_groups()),
      eps_(static_cast<float>(tokenizer.norm_eps())) {
  const OrreryTokenizer::Network& network = tokenizer.decoder_network();
  int64_t side = side_;
  const auto packed = [&](const OrreryTokenizer::Conv& conv) { return ops::SmallConvolution(conv.weight, conv.bias, side); };
  const auto kept = [](const OrreryTokenizer::Norm& norm) {
    return Norm{norm.weight.to(at::kFloat).contiguous(), norm.bias.to(at::kFloat).contiguous()};
  };
  conv_in_ = packed(network.conv_in);
  for (const OrreryTokenizer::Level& level : network.levels) {
    Level made{.width = level.resample ? level.resample->weight.size(0) / 4 : conv_in_.columns()};
    if (level.resample) {
      side *= 2;
      for (int64_t pixel = 0; pixel < 4; ++pixel)  // channel 4c + pixel belongs to pixel (pixel / 2, pixel % 2)
        made.up.emplace_back(level.resample->weight.flatten(1).slice(0, pixel, {}, 4),
                             level.resample->bias.slice(0, pixel, {}, 4));
    }
    for (const OrreryTokenizer::ResBlock& block : level.blocks)
      made.blocks.push_back({kept(block.norm1), kept(block.norm2), packed(block.conv1), packed(block.conv2)});
    levels_.push_back(std::move(made));
  }
  norm_out_ = kept(network.norm_out);
  conv_out_ = packed(network.conv_out);
  mean_.assign(channels_, 0);
  std_.assign(channels_, 1);
  const LatentNormalization& normalization = tokenizer.normalization();
  for (int64_t c = 0; normalization.mean.defined() && c < channels_; ++c) {
    mean_[c] = normalization.mean[c].item<float>();
    std_[c] = normalization.std[c].item<float>();
  }
}

// conv(silu(norm(x)))
void FastDecoder::norm_and_convolve(const Norm& norm, const ops::SmallConvolution& conv, const float* x, float* out,
                                    Then then) const {
  const int64_t channels = conv.depth();
  ops::Workspace memory;
  float *const scale = memory.floats(channels), *const shift = memory.floats(channels),
               *const sums = memory.floats(2 * channels);
  ops::group_norm({.pixels = conv.side() * conv.side(),
                   .channels = channels,
                   .groups = groups_,
                   .eps = eps_,
                   .weight = norm.weight.const_data_ptr<float>(),
                   .bias = norm.bias.const_data_ptr<float>()},
                  x, sums, scale, shift);
  conv.after_silu(x, out, then, {scale, shift});
}

void FastDecoder::operator()(const float* latent, float* frame) const {
  int64_t side = side_, width = conv_in_.columns();
  ops::Workspace memory;
  float *const picture = conv_in_.picture(memory), *x = memory.floats(side * side * width), *y = nullptr;
  for (int64_t c = 0; c < channels_; ++c)
    for (int64_t row = 0; row < side; ++row) {
      float* to = picture + conv_in_.at(row, 0) + c;
      for (int64_t i = 0; i < side; ++i, to += channels_) *to = *latent++ * std_[c] + mean_[c];
    }
  conv_in_(picture, x);
  for (const Level& level : levels_) {
    if (!level.up.empty()) {
      float* const larger = memory.floats(4 * side * side * level.width);
      std::vector<int64_t> from, to(side * side);
      for (int64_t i = 0; i < side * side; ++i) from.push_back(i * width);
      for (int64_t pixel = 0; pixel < 4; ++pixel) {
        for (int64_t i = 0; i < side * side; ++i)
          to[i] = ((2 * (i / side) + pixel / 2) * 2 * side + 2 * (i % side) + pixel % 2) * level.width;
        level.up[pixel](x, from, std::array<int64_t, 1>{0}, larger, to);
      }
      x = larger;
      side *= 2;
    }
    width = level.width;
    y = memory.floats(side * side * width);
    for (const Block& block : level.blocks) {
      norm_and_convolve(block.norm1, block.conv1, x, y);
      norm_and_convolve(block.norm2, block.conv2, y, x, Then::kAdd);
    }
  }
  y = memory.floats(side * side * conv_out_.columns());
  norm_and_convolve(norm_out_, conv_out_, x, y);
  const int64_t planes = conv_out_.columns() / 4, stride = conv_out_.columns();  // channel 4c + 2dy + dx
  for (int64_t c = 0; c < planes; ++c)
    for (int64_t row = 0; row < 2 * side; ++row) {
      const float* from = y + row / 2 * side * stride + 4 * c + row % 2 * 2;
      for (int64_t i = 0; i < side; ++i, from += stride)
        for (int64_t dx = 0; dx < 2; ++dx) *frame++ = std::clamp(from[dx], -1.f, 1.f);
    }
}

}  // namespace orrery::models
