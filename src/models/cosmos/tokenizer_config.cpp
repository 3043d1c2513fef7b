#include "models/cosmos/tokenizer_config.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>

#include "orrery/error.h"

namespace orrery::models {
namespace {

[[noreturn]] void refuse(const Config& config, const std::string& key, const std::string& expected, const std::string& got) {
  throw Error(ErrorKind::kConfig,
              {config.place() + ": " + key, "has a value the network cannot be built from", expected, got, ""});
}

int64_t require_positive(const Config& config, const std::string& key, int64_t value) {
  if (value < 1 || value > (int64_t{1} << 20)) refuse(config, key, "a positive number", std::to_string(value));
  return value;
}

int64_t log2_of(int64_t value) {
  return std::bit_width(static_cast<uint64_t>(value)) - 1;
}

bool contains(const std::vector<int64_t>& values, int64_t value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

int64_t read_patch(const Config& config, int64_t fallback) {
  const int64_t patch = config.get<int64_t>("patch_size", fallback);
  if (patch < 1 || patch > 16 || !std::has_single_bit(static_cast<uint64_t>(patch))) {
    refuse(config, "patch_size", "1, 2, 4, 8 or 16", std::to_string(patch));
  }
  return patch;
}

bool read_haar(const Config& config, const char* key, const char* fallback) {
  const std::string method = config.get<std::string>(key, fallback);
  if (method != "haar" && method != "rearrange") refuse(config, key, "haar or rearrange", method);
  return method == "haar";
}

/// How many halvings are left for the levels once the patches are taken.
struct Steps {
  int64_t space, time;
};

/// Fills in attention, space and time of the levels. `widths` hold one number a level in the encoder's order.
void plan_encoder(CosmosNetworkPlan& plan, const std::vector<int64_t>& widths, Steps steps,
                  const std::vector<int64_t>& attention, int64_t resolution) {
  const int64_t count = static_cast<int64_t>(widths.size());
  resolution /= plan.patch;
  for (int64_t i = 0; i < count; ++i) {
    CosmosLevel level{widths[i], contains(attention, resolution)};
    const bool inner = i + 1 < count;
    if (plan.kind == CosmosKind::kBase) {
      level.space = inner;
      level.time = true;  // at the last level by pooling alone
    } else if (plan.kind == CosmosKind::kImage) {
      level.space = i < steps.space;
    } else {
      level.space = inner && i < steps.space;
      level.time = inner && i < steps.time;
    }
    if (plan.kind == CosmosKind::kImage ? level.space : inner) resolution /= 2;
    plan.levels.push_back(level);
  }
}

/// The decoder mirrors the encoder's widths, but not where it changes resolution: see the reference's DecoderFactorized.
void plan_decoder(CosmosNetworkPlan& plan, const std::vector<int64_t>& widths, Steps steps,
                  const std::vector<int64_t>& attention, int64_t resolution, bool legacy) {
  const int64_t count = static_cast<int64_t>(widths.size());
  resolution = (resolution / plan.patch) >> (count - 1);
  for (int64_t i = 0; i < count; ++i) {
    CosmosLevel level{widths[i], contains(attention, resolution)};
    const bool inner = i + 1 < count;
    if (plan.kind == CosmosKind::kBase) {
      level.space = inner;
      level.time = true;
    } else if (plan.kind == CosmosKind::kImage) {
      level.space = i < steps.space;
    } else if (inner) {
      level.time = legacy ? i < steps.time : 0 < i && i < steps.time + 1;
      level.space = level.time || (i < steps.space && steps.space > steps.time);
    }
    if (plan.kind == CosmosKind::kImage ? level.space : inner) resolution *= 2;
    plan.levels.push_back(level);
  }
}

CosmosKind read_kind(const Config& config, const char* key, bool image) {
  const std::string name = config.get<std::string>(key, image ? "Default" : "BASE");
  if (image && name == "Default") return CosmosKind::kImage;
  if (!image && name == "BASE") return CosmosKind::kBase;
  if (!image && name == "FACTORIZED") return CosmosKind::kFactorized;
  refuse(config, key, image ? "Default" : "BASE or FACTORIZED", name);
}

std::vector<int64_t> scaled(std::vector<int64_t> factors, int64_t channels, bool reversed) {
  for (int64_t& factor : factors) factor *= channels;
  if (reversed) std::reverse(factors.begin(), factors.end());
  return factors;
}

std::vector<int64_t> read_widths(const Config& config, const std::string& key, size_t least) {
  std::vector<int64_t> widths = config.require<std::vector<int64_t>>(key);
  if (widths.size() < least || widths.size() > 16) {
    refuse(config, key, std::to_string(least) + " to 16 numbers", std::to_string(widths.size()));
  }
  for (const int64_t width : widths) require_positive(config, key, width);
  return widths;
}

void plan_quantizer(CosmosTokenizerPlan& plan, const Config& config) {
  const std::string quantizer = config.get<std::string>("quantizer", "RESFSQ");
  if (quantizer != "FSQ") {
    throw Error(ErrorKind::kUnsupported,
                {config.place() + ": quantizer", "is one that no released tokenizer has", "FSQ", quantizer, ""});
  }
  plan.fsq = config.require<std::vector<int64_t>>("levels");
  if (static_cast<int64_t>(plan.fsq.size()) != plan.latent_channels) {
    refuse(config, "levels", std::to_string(plan.latent_channels) + " numbers, as embedding_dim says",
           std::to_string(plan.fsq.size()));
  }
  int64_t vocabulary = 1;
  for (const int64_t levels : plan.fsq) {
    if (levels < 2 || levels > 65536 || (vocabulary *= levels) > INT32_MAX) {
      refuse(config, "levels", "numbers from 2 on whose product fits 31 bits", std::to_string(levels));
    }
  }
}

CosmosTokenizerPlan plan_original(const Config& config, bool image, bool discrete) {
  CosmosTokenizerPlan plan;
  plan.names = image ? &CosmosTensorNames::original_image() : &CosmosTensorNames::original_video();
  CosmosNetworkPlan& encoder = plan.encoder;
  CosmosNetworkPlan& decoder = plan.decoder;
  encoder.kind = read_kind(config, "encoder", image);
  decoder.kind = read_kind(config, "decoder", image);
  encoder.image_channels = require_positive(config, "in_channels", config.get<int64_t>("in_channels", 3));
  decoder.image_channels = require_positive(config, "out_channels", config.get<int64_t>("out_channels", 3));
  encoder.patch = decoder.patch = read_patch(config, 1);
  encoder.haar = decoder.haar = read_haar(config, "patch_method", "rearrange");
  encoder.blocks = require_positive(config, "num_res_blocks", config.require<int64_t>("num_res_blocks"));
  decoder.blocks = encoder.blocks + 1;
  for (CosmosNetworkPlan* half : {&encoder, &decoder}) {
    half->groups = image ? 32 : half->kind == CosmosKind::kFactorized ? 1 : config.get<int64_t>("num_groups", 32);
    require_positive(config, "num_groups", half->groups);
  }

  const int64_t channels = require_positive(config, "channels", config.require<int64_t>("channels"));
  const std::vector<int64_t> mult = read_widths(config, "channels_mult", 1);
  std::vector<int64_t> decoder_mult = mult;
  // The 0.1 generation's continuous video tokenizers have a decoder of two levels where they compress time by 4.
  if (!image && !discrete && config.get<std::string>("_library", "") == "cosmos_tokenizer.networks" &&
      config.get<int64_t>("temporal_compression", 4) == 4) {
    decoder_mult = {2, 4};
  }
  const std::vector<int64_t> attention = config.get<std::vector<int64_t>>("attn_resolutions", {});
  const int64_t resolution = config.get<int64_t>("resolution", 1024);
  Steps steps{log2_of(require_positive(config, "spatial_compression", config.get<int64_t>("spatial_compression", 16))),
              log2_of(require_positive(config, "temporal_compression", config.get<int64_t>("temporal_compression", 8)))};
  steps.space -= log2_of(encoder.patch);
  steps.time -= log2_of(encoder.patch);
  const int64_t most = static_cast<int64_t>(std::min(mult.size(), decoder_mult.size()));
  if (encoder.kind != CosmosKind::kBase && (steps.space > most || (!image && steps.time > most))) {
    refuse(config, "spatial_compression", "no more halvings than channels_mult has levels",
           std::to_string(std::max(steps.space, steps.time)));
  }
  encoder.stem = channels;
  plan_encoder(encoder, scaled(mult, channels, false), steps, attention, resolution);
  decoder.stem = channels * decoder_mult.back();
  plan_decoder(decoder, scaled(decoder_mult, channels, true), steps, attention, resolution,
               config.get<bool>("legacy_mode", false));

  const int64_t z = require_positive(config, "z_channels", config.require<int64_t>("z_channels"));
  const int64_t factor = require_positive(config, "z_factor", config.get<int64_t>("z_factor", 1));
  decoder.z_channels = z;
  if (discrete) {
    encoder.z_channels = image ? z : factor * z;
    plan.moments = plan.latent_channels =
        require_positive(config, "embedding_dim", config.require<int64_t>("embedding_dim"));
    plan_quantizer(plan, config);
    return plan;
  }
  encoder.z_channels = factor * z;
  plan.latent_channels = require_positive(config, "latent_channels", config.require<int64_t>("latent_channels"));
  plan.moments = factor * plan.latent_channels;
  const std::string formulation = config.get<std::string>("formulation", "AE");
  if (formulation != "AE" && formulation != "VAE") refuse(config, "formulation", "AE or VAE", formulation);
  plan.variational = formulation == "VAE";
  return plan;
}

void plan_normalization(CosmosTokenizerPlan& plan, const Config& config) {
  const auto statistic = [&](const char* key, const std::vector<double>& fallback) {
    const std::vector<std::string> keys = config.keys();
    const bool said = std::find(keys.begin(), keys.end(), key) != keys.end();  // null means none, absent means the default
    const std::vector<double> values = said ? config.get<std::vector<double>>(key, {}) : fallback;
    if (values.empty()) return at::Tensor();
    const int64_t count = static_cast<int64_t>(values.size());
    if (count % plan.latent_channels != 0) {
      if (!said) return at::Tensor();  // the class default fits 16 channels only
      refuse(config, key, "a multiple of latent_channels numbers", std::to_string(count));
    }
    return at::tensor(values, at::kDouble).to(at::kFloat).view({plan.latent_channels, -1});
  };
  plan.normalization.mean = statistic("latents_mean", cosmos_cv8x8x8_latents_mean());
  plan.normalization.std = statistic("latents_std", cosmos_cv8x8x8_latents_std());
}

CosmosTokenizerPlan plan_diffusers(const Config& config) {
  CosmosTokenizerPlan plan;
  CosmosNetworkPlan& encoder = plan.encoder;
  CosmosNetworkPlan& decoder = plan.decoder;
  encoder.image_channels = require_positive(config, "in_channels", config.get<int64_t>("in_channels", 3));
  decoder.image_channels = require_positive(config, "out_channels", config.get<int64_t>("out_channels", 3));
  encoder.patch = decoder.patch = read_patch(config, 4);
  encoder.haar = decoder.haar = read_haar(config, "patch_type", "haar");
  encoder.blocks = require_positive(config, "num_layers", config.get<int64_t>("num_layers", 2));
  decoder.blocks = encoder.blocks + 1;
  const auto widths = [&](const char* key, std::vector<int64_t> fallback) {
    return config.has(key) ? read_widths(config, key, 2) : fallback;
  };
  const std::vector<int64_t> down = widths("encoder_block_out_channels", {128, 256, 512, 512});
  std::vector<int64_t> up = widths("decode_block_out_channels", {256, 512, 512, 512});
  std::reverse(up.begin(), up.end());
  const std::vector<int64_t> attention = config.get<std::vector<int64_t>>("attention_resolutions", {32});
  const int64_t resolution = config.get<int64_t>("resolution", 1024);
  Steps steps{
      log2_of(require_positive(config, "spatial_compression_ratio", config.get<int64_t>("spatial_compression_ratio", 8))),
      log2_of(require_positive(config, "temporal_compression_ratio", config.get<int64_t>("temporal_compression_ratio", 8)))};
  steps.space -= log2_of(encoder.patch);
  steps.time -= log2_of(encoder.patch);
  encoder.stem = down.front();
  plan_encoder(encoder, {down.begin() + 1, down.end()}, steps, attention, resolution);
  decoder.stem = up.front();
  plan_decoder(decoder, {up.begin() + 1, up.end()}, steps, attention, resolution, false);
  plan.latent_channels = require_positive(config, "latent_channels", config.get<int64_t>("latent_channels", 16));
  plan.moments = encoder.z_channels = decoder.z_channels = plan.latent_channels;
  plan_normalization(plan, config);
  return plan;
}

}  // namespace

int64_t CosmosNetworkPlan::space_stride() const {
  int64_t stride = patch;
  for (const CosmosLevel& level : levels) stride *= level.space ? 2 : 1;
  return stride;
}

int64_t CosmosNetworkPlan::time_stride() const {
  int64_t stride = patch_frames();
  for (const CosmosLevel& level : levels) stride *= level.time ? 2 : 1;
  return stride;
}

CosmosTokenizerPlan cosmos_tokenizer_plan(const Config& config, const Weights& weights) {
  const std::string name = config.require<std::string>("_class_name");
  CosmosTokenizerPlan plan;
  if (name == "AutoencoderKLCosmos") {
    plan = plan_diffusers(config);
    const bool original = weights.has_prefix("encoder.down") || weights.has_prefix("decoder.up");
    plan.names = original ? &CosmosTensorNames::original_video() : &CosmosTensorNames::diffusers_video();
  } else {
    plan = plan_original(config, name.find("Image") != std::string::npos, name.find("Discrete") != std::string::npos);
  }
  plan.class_name = name;
  plan.window_frames = config.get<int64_t>("window_frames", 0);
  return plan;
}

}  // namespace orrery::models
