#include "models/tiny/taesd.h"

#include <ATen/ATen.h>

#include <utility>

namespace orrery::models {
namespace {

using layers::Conv2d;

at::Tensor activate(const at::Tensor& x, const std::string& name) {
  if (name == "relu") return at::relu(x);
  if (name == "silu" || name == "swish") return at::silu(x);
  if (name == "mish") return at::mish(x);
  return at::gelu(x);
}

at::Tensor conv_activate(const Conv2d& conv, const at::Tensor& x, const std::string& activation) {
  return activation == "relu" ? conv.relu(x) : activate(conv(x), activation);
}

at::Tensor resize(const at::Tensor& x, const std::string& mode, int64_t factor) {
  const std::vector<int64_t> size = {x.size(2) * factor, x.size(3) * factor};
  if (mode == "bilinear") return at::upsample_bilinear2d(x, size, /*align_corners=*/false);
  if (mode == "bicubic") return at::upsample_bicubic2d(x, size, /*align_corners=*/false);
  return at::upsample_nearest2d(x, size);
}

}  // namespace

TaesdBlock::TaesdBlock(const Weights& weights, int64_t width, bool pooled, const std::string& activation)
    : conv_0_(weights.sub("conv.0"), {.in = width, .out = width}),
      conv_2_(weights.sub("conv.2"), {.in = width, .out = width}),
      conv_4_(weights.sub("conv.4"), {.in = width, .out = width}),
      activation_(activation) {
  if (!pooled) return;
  const auto pool = weights.sub("pool");
  const int64_t wide = 4 * width;
  pool_.emplace(Pool{Conv2d(pool.sub("0"), {.in = width, .out = wide, .kernel = 1, .bias = false}),
                     pool.get("1.weight", {wide}), pool.get("1.bias", {wide}),
                     Conv2d(pool.sub("3"), {.in = wide, .out = width, .kernel = 1, .bias = false})});
}

at::Tensor TaesdBlock::operator()(const at::Tensor& input) const {
  auto x = input;
  if (pool_) {
    const auto normed = at::group_norm(pool_->conv_0(x), /*num_groups=*/4, pool_->norm_weight, pool_->norm_bias);
    x = pool_->conv_3(at::relu(normed)).add_(x);
  }
  const auto hidden = conv_activate(conv_2_, conv_activate(conv_0_, x, activation_), activation_);
  return conv_4_.add_relu(hidden, x);
}

TaesdEncoder::TaesdEncoder(const Weights& weights, const TaesdConfig& config) {
  int64_t layer = 0;
  const auto next = [&](int64_t skip = 0) { return weights.sub(std::to_string((layer += 1 + skip) - 1 - skip)); };
  const int64_t width = config.encoder_widths.front();
  if (config.stem_width > 0) {
    stem_.push_back(Conv2d(next(/*skip=*/1), {.in = 3, .out = config.stem_width, .stride = 2}));
    stem_.push_back(Conv2d(next(/*skip=*/1), {.in = config.stem_width, .out = width, .stride = 2}));
  } else {
    stem_.push_back(Conv2d(next(), {.in = 3, .out = width}));
  }
  for (size_t i = 0; i < config.encoder_widths.size(); ++i) {
    const int64_t out = config.encoder_widths[i];
    Stage stage;
    if (i > 0) {
      stage.down.emplace(next(),
                         layers::Conv2dSizes{.in = config.encoder_widths[i - 1], .out = out, .stride = 2, .bias = false});
    }
    const bool pooled = config.pooled && i + 1 == config.encoder_widths.size();
    for (int64_t block = 0; block < config.encoder_blocks[i]; ++block) {
      stage.blocks.emplace_back(next(), out, pooled, config.activation);
    }
    stages_.push_back(std::move(stage));
  }
  conv_out_.emplace(next(), layers::Conv2dSizes{.in = config.encoder_widths.back(), .out = config.latent_channels});
}

at::Tensor TaesdEncoder::operator()(const at::Tensor& pictures) const {
  auto x = stem_.size() == 1 ? stem_[0](pictures) : stem_[1].relu(stem_[0].relu(pictures));
  for (const auto& stage : stages_) {
    if (stage.down) x = (*stage.down)(x);  // half the sides
    for (const auto& block : stage.blocks) x = block(x);
  }
  return (*conv_out_)(x);
}

TaesdDecoder::TaesdDecoder(const Weights& weights, int64_t first, const TaesdConfig& config)
    : conv_in_(weights.sub(std::to_string(first)), {.in = config.latent_channels, .out = config.decoder_widths.front()}),
      activation_(config.activation) {
  int64_t layer = first + 2;  // an activation follows the first convolution
  const auto next = [&](int64_t skip = 0) { return weights.sub(std::to_string((layer += 1 + skip) - 1)); };
  for (size_t i = 0; i < config.decoder_widths.size(); ++i) {
    const int64_t width = config.decoder_widths[i];
    Stage stage;
    for (int64_t block = 0; block < config.decoder_blocks[i]; ++block) {
      stage.blocks.emplace_back(next(), width, config.pooled && i == 0, config.activation);
    }
    if (i + 1 < config.decoder_widths.size()) {
      const auto conv = next(/*skip=*/1);  // the upsampling has a number and no tensors
      const int64_t out = config.decoder_widths[i + 1];
      if (config.upsample_factor == 2 && config.upsample.starts_with("nearest")) {
        stage.up = layers::UpsampleConv2d(conv.get("weight", {out, width, 3, 3}));
      } else {
        stage.up = Resize{config.upsample, config.upsample_factor, Conv2d(conv, {.in = width, .out = out, .bias = false})};
      }
    }
    stages_.push_back(std::move(stage));
  }
  conv_out_.emplace(next(), layers::Conv2dSizes{.in = config.decoder_widths.back(), .out = 3});
}

at::Tensor TaesdDecoder::operator()(const at::Tensor& latents) const {
  auto x = conv_activate(conv_in_, (latents / 3).tanh_().mul_(3), activation_);
  for (const auto& stage : stages_) {
    for (const auto& block : stage.blocks) x = block(x);
    if (const auto* up = std::get_if<layers::UpsampleConv2d>(&stage.up)) {
      x = (*up)(x, /*batch=*/x.size(0));  // twice the sides
    } else if (const auto* by = std::get_if<Resize>(&stage.up)) {
      x = by->conv(resize(x, by->mode, by->factor));
    }
  }
  return (*conv_out_)(x);
}

TinyAutoencoder::TinyAutoencoder(std::string class_name, const TaesdConfig& config, LatentNormalization normalization,
                                 at::ScalarType dtype, std::optional<TaesdEncoder> encoder,
                                 std::optional<TaesdDecoder> decoder)
    : class_name_(std::move(class_name)),
      normalization_(std::move(normalization)),
      dtype_(dtype),
      encoder_(std::move(encoder)),
      decoder_(std::move(decoder)) {
  spec_.spatial_stride = config.spatial_stride;
  spec_.latent_channels = config.latent_channels;
  spec_.image = true;
}

Encoded TinyAutoencoder::encode_chunk(const at::Tensor& sample, CodecCache& cache, bool /*last*/) const {
  const int64_t batch = sample.size(0), frames = sample.size(2);
  cache.position += frames;
  if (frames == 0) {
    const int64_t side = spec_.spatial_stride;
    return {.latent = at::empty({batch, spec_.latent_channels, 0, sample.size(3) / side, sample.size(4) / side},
                                sample.options())};
  }
  const auto pictures = (sample.transpose(1, 2).flatten(0, 1).to(dtype_) + 1).mul_(0.5);  // [B·T,3,H,W], [-1,1] → [0,1]
  return {.latent = (*encoder_)(pictures).unflatten(0, {batch, frames}).transpose(1, 2).contiguous()};
}

at::Tensor TinyAutoencoder::decode_chunk(const at::Tensor& latent, CodecCache& cache, bool /*last*/) const {
  const int64_t batch = latent.size(0), frames = latent.size(2);
  cache.position += frames;
  if (frames == 0) {
    const int64_t side = spec_.spatial_stride;
    return at::empty({batch, 3, 0, latent.size(3) * side, latent.size(4) * side}, latent.options());
  }
  const auto pictures = (*decoder_)(latent.transpose(1, 2).flatten(0, 1).to(dtype_));  // [B·t,3,H,W]
  return (pictures * 2 - 1).unflatten(0, {batch, frames}).transpose(1, 2).contiguous();
}

}  // namespace orrery::models
