#include "models/tiny/taehv.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "ops/dispatch.h"
#include "ops/patch.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

using layers::Conv2d;

int64_t power_of_two(const std::vector<bool>& halvings) {
  return int64_t{1} << std::count(halvings.begin(), halvings.end(), true);
}

// [B,C,T,H,W] → [T·B,C,H,W], the layout of all blocks.
at::Tensor time_outside(const at::Tensor& clip) {
  return clip.permute({2, 0, 1, 3, 4}).flatten(0, 1);
}

// [T·B,C,H,W] → [B,C,T,H,W]
at::Tensor time_inside(const at::Tensor& frames, int64_t batch) {
  return frames.unflatten(0, {-1, batch}).permute({1, 2, 0, 3, 4}).contiguous();
}

// [N,C,p,p,h,w] as the kernels see patches, and [N,C,H,W] as they see pixels.
at::Tensor patches_of(const at::Tensor& places) {
  return places.unsqueeze(2).unsqueeze(5);
}
bool by_kernel(const at::Tensor& frames) {
  return frames.numel() > 0 && ops::on_device_with_kernels(frames);
}

at::Tensor unshuffled(const at::Tensor& frames, int64_t p) {
  if (!by_kernel(frames) || frames.stride(3) != 1) return at::pixel_unshuffle(frames, p);
  const at::Tensor places =
      at::empty({frames.size(0), frames.size(1), p, p, frames.size(2) / p, frames.size(3) / p}, frames.options());
  ops::patch_into(frames.unsqueeze(2), patches_of(places), {.ps = p});
  return places.flatten(1, 3);
}

at::Tensor shuffled(const at::Tensor& frames, int64_t p) {
  if (!by_kernel(frames)) return at::pixel_shuffle(frames, p);
  const at::Tensor places = frames.unflatten(1, {-1, p, p});
  const at::Tensor pixels =
      at::empty({places.size(0), places.size(1), frames.size(2) * p, frames.size(3) * p}, frames.options());
  ops::unpatch_into(patches_of(places), pixels.unsqueeze(2), {.ps = p});
  return pixels;
}

void require_lengths(size_t stages, size_t widths, size_t blocks, const char* part, const std::string& place) {
  if (widths == stages + 1 && blocks == stages) return;
  throw Error(ErrorKind::kConfig, {.place = place,
                                   .what = std::string("the lists of the ") + part + " do not belong together",
                                   .expected = "one flag and one block count a stage, and one width more",
                                   .got = std::to_string(stages) + " flags, " + std::to_string(blocks) + " counts, " +
                                          std::to_string(widths) + " widths"});
}

}  // namespace

TaehvConfig TaehvConfig::from(const Config& config) {
  TaehvConfig c;
  c.patch_size = config.get("patch_size", c.patch_size);
  c.latent_channels = config.get("latent_channels", c.latent_channels);
  const auto variant = config.get("arch_variant", std::string());
  config.check(variant.empty() || variant == "super", "arch_variant", "\"super\" or null");
  c.super = variant == "super";
  c.encoder_time_downscale = config.get("encoder_time_downscale", c.encoder_time_downscale);
  c.decoder_time_upscale = config.get("decoder_time_upscale", c.decoder_time_upscale);
  // The reference allows the flags of the last two stages alone.
  if (c.decoder_time_upscale.size() == 2) c.decoder_time_upscale.insert(c.decoder_time_upscale.begin(), false);
  if (c.super) c.decoder_widths = {512, 256, 128, 64};
  c.encoder_widths = config.get("encoder_widths", c.encoder_widths);
  c.encoder_blocks = config.get("encoder_blocks", c.encoder_blocks);
  c.decoder_widths = config.get("decoder_widths", c.decoder_widths);
  c.decoder_blocks = config.get("decoder_blocks", c.decoder_blocks);
  require_lengths(c.encoder_time_downscale.size(), c.encoder_widths.size(), c.encoder_blocks.size(), "encoder",
                  config.place());
  require_lengths(c.decoder_time_upscale.size(), c.decoder_widths.size(), c.decoder_blocks.size(), "decoder",
                  config.place());
  return c;
}

TaehvEncoder::TaehvEncoder(const Weights& weights, const TaehvConfig& config)
    : conv_in_(weights.sub("0"), {.in = 3 * config.patch_size * config.patch_size, .out = config.encoder_widths[0]}) {
  int64_t layer = 2;  // 0 is the first convolution, 1 its ReLU
  for (size_t i = 0; i < config.encoder_blocks.size(); ++i) {
    const int64_t in = config.encoder_widths[i], width = config.encoder_widths[i + 1];
    const int64_t pool = config.encoder_time_downscale[i] ? 2 : 1;
    const auto tpool = weights.sub(std::to_string(layer++));
    Stage stage{pool, pool_and_downsample(tpool, pool, weights.sub(std::to_string(layer++)), in, width), {}};
    for (int64_t block = 0; block < config.encoder_blocks[i]; ++block) {
      stage.blocks.push_back({MemBlock(weights.sub(std::to_string(layer++)), width, width), num_slots_++});
    }
    stages_.push_back(std::move(stage));
  }
  conv_out_.emplace(weights.sub(std::to_string(layer)),
                    layers::Conv2dSizes{.in = config.encoder_widths.back(), .out = config.latent_channels});
}

at::Tensor TaehvEncoder::operator()(const at::Tensor& frames, std::vector<at::Tensor>& slots, int64_t batch) const {
  auto x = conv_in_.relu(frames);
  for (const auto& stage : stages_) {
    x = stage.down(fold_frames(x, stage.pool, batch));  // half the sides, 1/pool of the frames
    for (const auto& block : stage.blocks) x = block(x, slots, batch);
  }
  return (*conv_out_)(x);
}

TaehvDecoder::TaehvDecoder(const Weights& weights, const TaehvConfig& config)
    : super_(config.super),
      conv_in_(super_ ? Conv2d(weights.sub("0"),
                               {.in = config.latent_channels, .out = config.decoder_widths[0], .kernel = 1, .bias = false})
                      : Conv2d(weights.sub("1"), {.in = config.latent_channels, .out = config.decoder_widths[0]})) {
  int64_t layer = super_ ? 1 : 3;  // the base decoder begins with a clamp and has a ReLU after its first convolution
  const auto next = [&](int64_t skip = 0) { return weights.sub(std::to_string((layer += 1 + skip) - 1)); };
  for (size_t i = 0; i < config.decoder_blocks.size(); ++i) {
    const int64_t width = config.decoder_widths[i], out = config.decoder_widths[i + 1];
    const int64_t stride = config.decoder_time_upscale[i] ? 2 : 1;
    std::vector<MemoryBlock> blocks;
    for (int64_t block = 0; block < config.decoder_blocks[i]; ++block) {
      if (super_) {
        blocks.push_back({SuperMemBlock(next(), width), num_slots_++});
      } else {
        blocks.push_back({MemBlock(next(), width, width), num_slots_++});
      }
    }
    if (super_) {
      Conv2d conv(next(), {.in = width, .out = 4 * out});
      Conv2d grow(next(/*skip=*/2).sub("conv"), {.in = out, .out = stride * out, .kernel = 1, .bias = false});
      stages_.push_back({std::move(blocks), ShuffleGrow{std::move(conv), std::move(grow), stride}});
    } else {
      const auto grow = next(/*skip=*/1);
      stages_.push_back({std::move(blocks), Grow{upsample_and_grow(grow, stride, next(), width, out)}});
    }
  }
  conv_out_.emplace(next(super_ ? 0 : 1), layers::Conv2dSizes{.in = config.decoder_widths.back(),
                                                              .out = 3 * config.patch_size * config.patch_size});
}

at::Tensor TaehvDecoder::operator()(const at::Tensor& latents, std::vector<at::Tensor>& slots, int64_t batch) const {
  auto x = super_ ? conv_in_(latents) : conv_in_.relu((latents / 3).tanh_().mul_(3));
  for (const auto& stage : stages_) {
    for (const auto& block : stage.blocks) x = block(x, slots, batch);
    if (const auto* grow = std::get_if<Grow>(&stage.up)) {
      x = grow->up(x, batch);  // twice the sides, `stride` times the frames
    } else {
      const auto& shuffle = std::get<ShuffleGrow>(stage.up);
      x = unfold_frames(shuffle.grow(at::pixel_shuffle(shuffle.conv.relu(x), 2)), shuffle.stride, batch);
    }
  }
  return (*conv_out_)(super_ ? x : x.relu_());
}

TAEHV::TAEHV(const Config& config, const Weights& weights) : config_(TaehvConfig::from(config)), dtype_(weights.dtype()) {
  if (weights.has_prefix("encoder")) encoder_.emplace(weights.sub("encoder"), config_);
  if (weights.has_prefix("decoder") || !encoder_) decoder_.emplace(weights.sub("decoder"), config_);
  const auto& halvings = encoder_ ? config_.encoder_time_downscale : config_.decoder_time_upscale;
  spec_.spatial_stride = config_.patch_size << halvings.size();
  spec_.temporal_stride = power_of_two(halvings);
  spec_.latent_channels = config_.latent_channels;
  spec_.causal = true;
  spec_.pads_time = true;
}

Encoded TAEHV::encode_chunk(const at::Tensor& sample, CodecCache& cache, bool last) const {
  const int64_t batch = sample.size(0), stride = power_of_two(config_.encoder_time_downscale);
  auto clip = cache.pending.defined() ? at::cat({cache.pending, sample}, 2) : sample;
  cache.position += sample.size(2);
  if (last && clip.size(2) % stride != 0) {
    const int64_t missing = stride - clip.size(2) % stride;
    clip = at::cat({clip, clip.narrow(2, clip.size(2) - 1, 1).expand({-1, -1, missing, -1, -1})}, 2);
  }
  const int64_t ready = clip.size(2) - clip.size(2) % stride;
  cache.pending = ready < clip.size(2) ? clip.narrow(2, ready, clip.size(2) - ready).clone() : at::Tensor();
  if (ready == 0) {
    const int64_t side = spec_.spatial_stride;
    return {.latent =
                at::empty({batch, config_.latent_channels, 0, clip.size(3) / side, clip.size(4) / side}, sample.options())};
  }
  cache.slots.resize(encoder_->num_slots());
  auto frames = (time_outside(clip.narrow(2, 0, ready)).to(dtype_) + 1).mul_(0.5);  // [-1,1] → [0,1]
  if (config_.patch_size > 1) frames = unshuffled(frames, config_.patch_size);
  return {.latent = time_inside((*encoder_)(frames, cache.slots, batch), batch)};
}

at::Tensor TAEHV::decode_chunk(const at::Tensor& latent, CodecCache& cache, bool /*last*/) const {
  const int64_t batch = latent.size(0), stride = power_of_two(config_.decoder_time_upscale);
  const int64_t begin = cache.position * stride;
  cache.position += latent.size(2);
  if (latent.size(2) == 0) {
    const int64_t side = spec_.spatial_stride;
    return at::empty({batch, 3, 0, latent.size(3) * side, latent.size(4) * side}, latent.options());
  }
  cache.slots.resize(decoder_->num_slots());
  auto frames = (*decoder_)(time_outside(latent).to(dtype_), cache.slots, batch);
  const int64_t early = std::max<int64_t>(0, stride - 1 - begin);  // frames before the clip's first
  if (early > 0) frames = frames.narrow(0, early * batch, frames.size(0) - early * batch);
  if (config_.patch_size > 1) frames = shuffled(frames, config_.patch_size);
  return time_inside(frames.clamp(0, 1).mul_(2).sub_(1), batch);
}

std::unique_ptr<Component> build_taehv(const Config& config, const Weights& weights) {
  // A hand-written config.json may hold the constructor's arguments alone; the widths then follow from the tensors.
  const bool sized = config.has("encoder_widths") || config.has("decoder_widths");
  const auto described = sized ? std::nullopt : describe_taehv(weights);
  return std::make_unique<TAEHV>(described.value_or(config), weights);
}

}  // namespace orrery::models
