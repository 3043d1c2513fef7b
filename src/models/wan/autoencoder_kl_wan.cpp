#include "models/wan/autoencoder_kl_wan.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "ops/dispatch.h"
#include "ops/patch.h"
#include "orrery/error.h"

namespace orrery::models {

namespace {

constexpr int64_t kGroupPixels = 4 * 256 * 256;  // pixels that the encoder takes at once, where a group of frames has fewer

CodecSpec spec_of(const WanVaeConfig& config) {
  CodecSpec spec;
  spec.spatial_stride = config.spatial_stride();
  spec.temporal_stride = config.temporal_stride();
  spec.latent_channels = config.z_dim;
  spec.causal = true;
  return spec;
}

// [B,T,H,W,C,column,row] as [B,C,1,row,column,T,H,W]
at::Tensor as_kernels_see(const at::Tensor& patches) {
  return patches.unsqueeze(-1).permute({0, 4, 7, 6, 5, 1, 2, 3});
}

// [B,C,T,H·p,W·p] → [B,T,H,W,(C, column, row)]
at::Tensor patchify(const at::Tensor& x, int64_t p) {
  if (p > 1 && x.stride(4) == 1 && ops::on_device_with_kernels(x)) {
    const at::Tensor patches = at::empty({x.size(0), x.size(2), x.size(3) / p, x.size(4) / p, x.size(1), p, p}, x.options());
    ops::patch_into(x, as_kernels_see(patches), {.ps = p});
    return patches.flatten(4);
  }
  const at::Tensor blocks = x.unflatten(4, {-1, p}).unflatten(3, {-1, p});  // [B,C,T,H,row,W,column]
  return blocks.permute({0, 2, 3, 5, 1, 6, 4}).flatten(4);
}

// [B,T,H,W,(C, column, row)] → [B,C,T,H·p,W·p], to where that lies
void unpatchify(const at::Tensor& x, int64_t p, const at::Tensor& pixels) {
  const at::Tensor blocks = x.unflatten(4, {-1, p, p});
  if (p > 1 && x.scalar_type() == pixels.scalar_type() && ops::on_device_with_kernels(x))
    ops::unpatch_into(as_kernels_see(blocks), pixels, {.ps = p});
  else
    pixels.copy_(blocks.permute({0, 4, 1, 2, 6, 3, 5}).flatten(5, 6).flatten(3, 4));
}

// Refuses what does not continue the stream: `slots` hold frames of the network's own input first.
void check_chunk(const at::Tensor& x, int64_t channels, const char* name, const CodecCache& cache) {
  std::ostringstream got;
  got << x.sizes();
  if (x.dim() != 5 || x.size(1) != channels || !x.is_floating_point()) {
    throw Error(ErrorKind::kArgument, {.place = name,
                                       .what = "has the wrong shape or dtype",
                                       .expected = "float [B," + std::to_string(channels) + ",T,H,W]",
                                       .got = got.str()});
  }
  if (cache.pending.defined() &&
      (cache.pending.size(0) != x.size(0) || cache.pending.sizes().slice(3) != x.sizes().slice(3))) {
    throw Error(ErrorKind::kArgument, {.place = name,
                                       .what = "does not continue the clip: batch, height or width have changed",
                                       .got = got.str(),
                                       .hint = "begin a new clip with an empty cache"});
  }
}

}  // namespace

AutoencoderKLWan::AutoencoderKLWan(const Config& config, const Weights& weights)
    : AutoencoderKLWan(WanVaeConfig::from(config), weights, config.place()) {}

AutoencoderKLWan::AutoencoderKLWan(const WanVaeConfig& config, const Weights& weights, std::string config_place)
    : config_(config),
      config_place_(std::move(config_place)),
      spec_(spec_of(config)),
      dtype_(weights.dtype()),
      device_(weights.device()),
      encoder_(weights.as_stored().sub("encoder"), config),
      quant_conv_(weights.as_stored().sub("quant_conv"), 2 * config.z_dim, 2 * config.z_dim, 3),
      post_quant_conv_(weights.as_stored().sub("post_quant_conv"), config.z_dim, config.z_dim, 3),
      decoder_(weights.as_stored().sub("decoder"), config),
      decoded_frames_(1) {
  for (int64_t level = 0; level < config.levels(); ++level) decoded_frames_ *= config.upsamples_time(level) ? 2 : 1;
  const auto vector = [&](const std::vector<double>& values) {
    return at::tensor(values, at::kDouble).to(at::kFloat).to(device_);
  };
  if (!config.latents_mean.empty()) normalization_.mean = vector(config.latents_mean);
  if (!config.latents_std.empty()) normalization_.std = vector(config.latents_std);
}

const LatentNormalization& AutoencoderKLWan::normalization() const {
  const auto fits = [&](const std::vector<double>& values) {
    return values.size() == config_.latents_mean.size() &&
           (values.empty() || static_cast<int64_t>(values.size()) == config_.z_dim);
  };
  if (!fits(config_.latents_mean) || !fits(config_.latents_std)) {
    throw Error(ErrorKind::kConfig,
                {.place = config_place_ + ": latents_mean, latents_std",
                 .what = "are not the statistics of these latents",
                 .expected = std::to_string(config_.z_dim) + " values each",
                 .got = std::to_string(config_.latents_mean.size()) + " and " + std::to_string(config_.latents_std.size())});
  }
  return normalization_;
}

Encoded AutoencoderKLWan::encode_chunk(const at::Tensor& sample, CodecCache& cache, bool last) const {
  const c10::InferenceMode inference;
  check_chunk(sample, config_.in_channels / (config_.patch_size * config_.patch_size), "sample", cache);
  spec_.check_size(sample.size(3), sample.size(4));
  const at::Tensor clip = cache.pending.defined() ? at::cat({cache.pending, sample.to(cache.pending.options())}, 2) : sample;
  const int64_t frames = clip.size(2), group = spec_.temporal_stride;
  const int64_t alone = cache.position == 0 ? std::min<int64_t>(1, frames) : 0;  // the clip's first frame
  const int64_t left_over = (frames - alone) % group;
  if (last && (left_over > 0 || cache.position + frames == 0)) spec_.latent_frames(cache.position + frames);  // throws
  cache.slots.resize(static_cast<size_t>(encoder_.slots()));

  std::vector<at::Tensor> latents;
  const auto feed = [&](int64_t begin, int64_t count, bool first) {
    const at::Tensor pixels = clip.narrow(2, begin, count).to(device_, dtype_);
    const at::Tensor moments = encoder_(patchify(pixels, config_.patch_size).contiguous(), cache, first);  // [B,t,h,w,2·z]
    latents.push_back(quant_conv_.first(moments, config_.z_dim).permute({0, 4, 1, 2, 3}));
    cache.position += count;
  };
  if (alone > 0) feed(0, 1, true);
  const int64_t whole = frames - alone - left_over,
                area = std::max<int64_t>(1, sample.size(0) * sample.size(3) * sample.size(4));
  const int64_t step = group * std::max<int64_t>(1, kGroupPixels / (group * area));
  for (int64_t done = 0; done < whole; done += step) feed(alone + done, std::min(step, whole - done), false);
  cache.pending = clip.narrow(2, frames - left_over, left_over).clone();  // empty: it still says what the clip looks like

  const int64_t stride = spec_.spatial_stride;
  if (latents.empty()) {
    return {at::empty({sample.size(0), config_.z_dim, 0, sample.size(3) / stride, sample.size(4) / stride},
                      at::TensorOptions(device_).dtype(dtype_)),
            {}};
  }
  return {at::cat(latents, 2).contiguous(), {}};
}

// Each of a level's convolutions remembers two frames, of a picture its only one; on top come a handful of copies of the
// frames that are on their way together, at the finest level.
int64_t AutoencoderKLWan::work_bytes(at::IntArrayRef latents) const {
  const int64_t remembered = latents[2] > 1 ? 2 : 1, together = latents[2] > 1 ? decoded_frames_ : 1;
  int64_t elements = 0, finest = 0, pixels = latents[0] * latents[3] * latents[4];
  for (int64_t level = 0; level < config_.levels(); ++level, pixels *= 4) {
    finest = config_.decoder_base_dim * config_.dim_mult[static_cast<size_t>(config_.levels() - 1 - level)] * pixels;
    elements += 2 * remembered * (config_.num_res_blocks + 1) * finest;
  }
  // Where frames are narrower than oneDNN's blocks of channels, it joins a clip with its past and pads both.
  const bool padded = together > 1 && config_.decoder_base_dim < 16;
  return static_cast<int64_t>(sizeof(float)) * (elements + (padded ? 10 : 6) * together * finest);
}

at::Tensor AutoencoderKLWan::decode_chunk(const at::Tensor& latent, CodecCache& cache, bool) const {
  const c10::InferenceMode inference;
  check_chunk(latent, config_.z_dim, "latent", cache);
  const int64_t latents = latent.size(2), stride = spec_.spatial_stride;
  const int64_t alone = cache.position == 0 ? std::min<int64_t>(1, latents) : 0;  // the clip's first latent, one frame
  const int64_t frames = alone + (latents - alone) * decoded_frames_;
  const int64_t channels = config_.out_channels / (config_.patch_size * config_.patch_size);
  cache.slots.resize(static_cast<size_t>(decoder_.slots()));
  cache.pending = latent.narrow(2, 0, 0).clone();

  const at::Tensor sample = at::empty({latent.size(0), channels, frames, stride * latent.size(3), stride * latent.size(4)},
                                      at::TensorOptions(device_).dtype(dtype_));
  int64_t done = 0;
  const auto sink = [&](const at::Tensor& piece) {
    at::Tensor target = sample.narrow(2, done, piece.size(1));
    unpatchify(piece, config_.patch_size, target);
    if (config_.clip_output) target.clamp_(-1, 1);
    done += piece.size(1);
  };
  const auto feed = [&](int64_t begin, int64_t count, bool first) {
    if (count == 0) return;
    const at::Tensor z = latent.narrow(2, begin, count).to(device_, dtype_).permute({0, 2, 3, 4, 1}).contiguous();
    decoder_(post_quant_conv_(z), cache, first, sink);
    cache.position += count;
  };
  feed(0, alone, true);
  feed(alone, latents - alone, false);
  return sample;
}

}  // namespace orrery::models
