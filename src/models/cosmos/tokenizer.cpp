#include "models/cosmos/tokenizer.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

#include "orrery/error.h"

namespace orrery::models {
namespace {

/// Tensors of checkpoints that are computed here, or that the original's network holds and never uses.
void ignore_constants(const Weights& weights, const CosmosTokenizerPlan& plan) {
  for (const std::string& name : weights.names()) {
    const auto holds = [&](std::string_view part) { return name.find(part) != std::string::npos; };
    if (holds("quantizer.") || holds("patcher.") || holds("patcher3d.") || holds("patch_embed.")) weights.ignore(name);
  }
  // The 0.1 generation builds the convolutions of every change of resolution, also where nothing changes.
  const auto ignore_idle = [&](const CosmosNetworkPlan& half, const std::string& prefix, const char* module, bool reversed) {
    if (half.kind != CosmosKind::kFactorized) return;
    const int64_t count = static_cast<int64_t>(half.levels.size());
    for (int64_t i = 0; i < count; ++i) {
      const Weights level = weights.sub(prefix, reversed ? count - 1 - i : i).sub(module);
      const bool space = half.levels[i].space, time = half.levels[i].time;
      const std::array<bool, 3> used{reversed ? time : space, reversed ? space : time, space || time};
      for (int conv = 0; conv < 3; ++conv) {
        if (used[conv]) continue;
        for (const char* leaf : {"weight", "bias"}) level.ignore("conv" + std::to_string(conv + 1) + ".conv3d." + leaf);
      }
    }
  };
  ignore_idle(plan.encoder, "encoder.down", "downsample", false);
  ignore_idle(plan.decoder, "decoder.up", "upsample", true);
}

/// The original keeps the statistics of its latents beside the network, as a pair of tensors: of each channel and latent
/// frame of a window (`mean_std.pt`), or of each channel (`image_mean_std.pt`).
void read_statistics(CosmosTokenizerPlan& plan, const std::filesystem::path& place) {
  const std::filesystem::path folder = std::filesystem::is_directory(place) ? place : place.parent_path();
  const std::filesystem::path file = folder / (plan.image() ? "image_mean_std.pt" : "mean_std.pt");
  if (plan.discrete() || plan.normalization.mean.defined() || !std::filesystem::is_regular_file(file)) return;
  const Weights pair = Weights::open(file);
  const auto statistic = [&](const char* name) {
    const at::Tensor values = pair.stored(name).to(at::kFloat);
    if (values.numel() == 0 || values.numel() % plan.latent_channels != 0) {
      throw Error(ErrorKind::kWeights, {file.string() + ": " + name, "does not fit the tokenizer",
                                        "a multiple of " + std::to_string(plan.latent_channels) + " numbers",
                                        std::to_string(values.numel()), ""});
    }
    return values.reshape({plan.latent_channels, -1});
  };
  plan.normalization.mean = statistic("0");
  plan.normalization.std = statistic("1");
  plan.normalization.scale = 0.5;  // sigma_data of the Predict1 models, the only dynamics on these latents
}

int64_t fitting(int64_t frames, int64_t stride, bool first) {
  if (!first) return frames / stride * stride;
  return frames == 0 ? 0 : 1 + (frames - 1) / stride * stride;
}

/// [t,B,h,w,C] → [B,C,t,h,w].
at::Tensor channels_first(const at::Tensor& x) {
  return x.permute({1, 4, 0, 2, 3}).contiguous();
}

}  // namespace

CosmosAutoencoder::CosmosAutoencoder(const Config& config, const Weights& weights)
    : plan_(cosmos_tokenizer_plan(config, weights)),
      place_(weights.place()),
      dtype_(weights.dtype()),
      device_(weights.device()) {
  for (at::Tensor* each : {&plan_.normalization.mean, &plan_.normalization.std})
    if (each->defined()) *each = each->to(device_);
  const CosmosTensorNames& names = *plan_.names;
  const CosmosNetworkPlan& shape = plan_.encoder;
  spec_.spatial_stride = shape.space_stride();
  spec_.temporal_stride = plan_.image() ? 1 : shape.time_stride();
  spec_.latent_channels = plan_.latent_channels / (plan_.variational && plan_.moments == plan_.latent_channels ? 2 : 1);
  spec_.causal = !plan_.image();
  spec_.image = plan_.image();
  spec_.window_frames = plan_.window_frames;
  if (plan_.discrete()) spec_.vocabulary = quantizer_.emplace(plan_.fsq, device_).vocabulary();

  const bool image = plan_.image();
  const bool encoder = weights.has_prefix("encoder"), decoder = weights.has_prefix("decoder");
  if (encoder || !decoder) {  // a file with neither says what it lacks by its first tensor
    encoder_.emplace(weights.sub("encoder"), plan_.encoder, names, encoder_slots_);
    quant_conv_.emplace(weights.sub("quant_conv" + names.conv), image, plan_.encoder.z_channels, plan_.moments,
                        CosmosKernel{}, encoder_slots_);
  }
  if (decoder || !encoder) {
    post_quant_conv_.emplace(weights.sub("post_quant_conv" + names.conv), image, plan_.latent_channels,
                             plan_.decoder.z_channels, CosmosKernel{}, decoder_slots_);
    decoder_.emplace(weights.sub("decoder"), plan_.decoder, names, decoder_slots_);
  }
  ignore_constants(weights, plan_);
  read_statistics(plan_, place_);
}

void CosmosAutoencoder::require_half(bool present, const char* half) const {
  if (present) return;
  throw Error(ErrorKind::kUnsupported, {place_, std::string("holds no ") + half, "", "",
                                        "load the whole autoencoder, or the file of its " + std::string(half)});
}

Encoded CosmosAutoencoder::moments_to_latent(const at::Tensor& moments) const {
  if (quantizer_) {
    const auto [codes, indices] = quantizer_->quantize(moments);
    return {channels_first(codes.to(moments.scalar_type())), indices.transpose(0, 1).contiguous()};
  }
  // The mode of the posterior: its mean, the first half of the moments of a VAE; an AE has nothing else.
  return {channels_first(plan_.variational ? moments.slice(-1, 0, moments.size(-1) / 2) : moments), {}};
}

Encoded CosmosAutoencoder::encode_chunk(const at::Tensor& sample, CodecCache& cache, bool last) const {
  const c10::InferenceMode guard;
  require_half(has_encoder(), "encoder");
  if (sample.dim() != 5 || sample.size(1) != plan_.encoder.image_channels) {
    throw Error(ErrorKind::kArgument,
                {"sample", "has the wrong shape", "[B," + std::to_string(plan_.encoder.image_channels) + ",T,H,W]",
                 std::to_string(sample.dim()) + " dimensions", ""});
  }
  spec_.check_size(sample.size(3), sample.size(4));
  at::Tensor pixels = sample.to(device_, dtype_);
  if (cache.pending.defined()) pixels = at::cat({cache.pending, pixels}, 2);
  const bool first = cache.position == 0;
  const int64_t given = pixels.size(2), stride = spec_.temporal_stride;
  const bool whole_clip = !plan_.image() && !plan_.encoder.causal();
  int64_t frames = plan_.image() ? given : fitting(given, stride, first);
  if (whole_clip && !last) frames = 0;
  if (last && frames < given) {
    throw Error(ErrorKind::kArgument,
                {"sample", "has frames left over", "1 + a multiple of " + std::to_string(stride) + " frames",
                 std::to_string(cache.position + given), ""});
  }
  cache.pending = frames < given ? pixels.slice(2, frames).clone() : at::Tensor();
  if (frames == 0) {
    const int64_t stride_hw = spec_.spatial_stride;
    return moments_to_latent(at::empty(
        {0, sample.size(0), sample.size(3) / stride_hw, sample.size(4) / stride_hw, plan_.moments}, pixels.options()));
  }
  cache.slots.resize(encoder_slots_.count());
  cache.position += frames;
  CosmosPass pass{cache, first, last};
  const at::Tensor x = cosmos_patches(pixels.slice(2, 0, frames), plan_.encoder, first);
  return moments_to_latent((*quant_conv_)((*encoder_)(x, pass), pass));
}

at::Tensor CosmosAutoencoder::decode_chunk(const at::Tensor& latent, CodecCache& cache, bool last) const {
  const c10::InferenceMode guard;
  require_half(has_decoder(), "decoder");
  if (latent.dim() != 5 || latent.size(1) != plan_.latent_channels) {
    throw Error(
        ErrorKind::kArgument,
        {"latent", "has the wrong shape", "[B," + std::to_string(plan_.latent_channels) + ",t,h,w]",
         latent.dim() == 5 ? std::to_string(latent.size(1)) + " channels" : std::to_string(latent.dim()) + " dimensions",
         ""});
  }
  at::Tensor codes = latent.to(device_, dtype_);
  if (cache.pending.defined()) codes = at::cat({cache.pending, codes}, 2);
  const bool wait = !plan_.image() && !plan_.decoder.causal() && !last;
  cache.pending = wait ? codes : at::Tensor();
  const int64_t frames = wait ? 0 : codes.size(2);
  if (frames == 0) {
    const int64_t stride = plan_.decoder.space_stride();
    return at::empty({codes.size(0), plan_.decoder.image_channels, 0, codes.size(3) * stride, codes.size(4) * stride},
                     codes.options());
  }
  cache.slots.resize(decoder_slots_.count());
  CosmosPass pass{cache, cache.position == 0, last};
  cache.position += frames;
  const at::Tensor x = (*post_quant_conv_)(codes.permute({2, 0, 3, 4, 1}).contiguous(), pass);
  return cosmos_unpatch((*decoder_)(x, pass), plan_.decoder, pass.first);
}

at::Tensor CosmosAutoencoder::codes_of(const at::Tensor& indices) const {
  if (!quantizer_) return Autoencoder::codes_of(indices);
  const c10::InferenceMode guard;
  return quantizer_->indices_to_codes(indices.to(device_)).movedim(-1, 1).to(dtype_).contiguous();
}

// Enough frames to keep the convolutions busy, few enough that memory stays that of a short clip.
int64_t CosmosAutoencoder::preferred_encode_chunk() const {
  if (plan_.image()) return 1;
  return plan_.encoder.causal() ? std::max<int64_t>(16, spec_.temporal_stride) : 0;
}

int64_t CosmosAutoencoder::preferred_decode_chunk() const {
  if (plan_.image()) return 1;
  return plan_.decoder.causal() ? std::max<int64_t>(8 / spec_.temporal_stride, 1) : 0;
}

// Two frames that each convolution over time remembers, a handful of copies of the frames of a chunk where they are largest,
// and their pixels as they are put in order and handed on.
int64_t CosmosAutoencoder::work_bytes(at::IntArrayRef latents) const {
  if (!has_decoder()) return 0;
  const CosmosNetworkPlan& plan = plan_.decoder;
  const int64_t chunk = preferred_decode_chunk() > 0 ? std::min(preferred_decode_chunk(), latents[2]) : latents[2];
  int64_t pixels = latents[0] * latents[3] * latents[4], frames = chunk, largest = 0, remembered = 0;
  for (const CosmosLevel& level : plan.levels) {
    if (!plan_.image()) remembered += 2 * 2 * (plan.blocks + 1) * level.width * pixels;
    frames *= level.time ? 2 : 1;
    pixels *= level.space ? 4 : 1;
    largest = std::max(largest, level.width * pixels * frames);
  }
  return static_cast<int64_t>(c10::elementSize(dtype_)) *
         (remembered + 6 * largest + 3 * plan.patch_channels() * pixels * frames);
}

std::unique_ptr<Component> build_cosmos_autoencoder(const Config& config, const Weights& weights) {
  const c10::InferenceMode guard;
  return std::make_unique<CosmosAutoencoder>(config, weights);
}

}  // namespace orrery::models
