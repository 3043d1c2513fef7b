#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "models/wan/autoencoder_kl_wan.h"
#include "models/wan/wan.h"

namespace orrery::models {

namespace {

using Names = std::map<std::string, std::string>;

void add_conv(Names& names, const std::string& wanted, const std::string& stored) {
  for (const char* leaf : {".weight", ".bias"}) names[wanted + leaf] = stored + leaf;
}

void add_resnet(Names& names, const std::string& wanted, const std::string& stored) {
  names[wanted + ".norm1.gamma"] = stored + ".residual.0.gamma";
  add_conv(names, wanted + ".conv1", stored + ".residual.2");
  names[wanted + ".norm2.gamma"] = stored + ".residual.3.gamma";
  add_conv(names, wanted + ".conv2", stored + ".residual.6");
  add_conv(names, wanted + ".conv_shortcut", stored + ".shortcut");
}

void add_attention(Names& names, const std::string& wanted, const std::string& stored) {
  names[wanted + ".norm.gamma"] = stored + ".norm.gamma";
  add_conv(names, wanted + ".to_qkv", stored + ".to_qkv");
  add_conv(names, wanted + ".proj", stored + ".proj");
}

void add_resample(Names& names, const std::string& wanted, const std::string& stored) {
  add_conv(names, wanted + ".resample.1", stored + ".resample.1");
  add_conv(names, wanted + ".time_conv", stored + ".time_conv");
}

void add_ends(Names& names, const std::string& network) {
  add_conv(names, network + ".conv_in", network + ".conv1");
  add_resnet(names, network + ".mid_block.resnets.0", network + ".middle.0");
  add_attention(names, network + ".mid_block.attentions.0", network + ".middle.1");
  add_resnet(names, network + ".mid_block.resnets.1", network + ".middle.2");
  names[network + ".norm_out.gamma"] = network + ".head.0.gamma";
  add_conv(names, network + ".conv_out", network + ".head.2");
}

}  // namespace

Names original_wan_vae_names(const WanVaeConfig& config) {
  Names names;
  add_ends(names, "encoder");
  add_ends(names, "decoder");
  add_conv(names, "quant_conv", "conv1");
  add_conv(names, "post_quant_conv", "conv2");
  const int64_t levels = config.levels(), blocks = config.num_res_blocks;
  int64_t flat = 0;
  for (int64_t i = 0; i < levels; ++i) {
    const std::string wanted = "encoder.down_blocks.", stored = "encoder.downsamples.", level = std::to_string(i);
    for (int64_t j = 0; j < blocks; ++j) {
      const std::string block = std::to_string(config.is_residual ? j : flat++);
      if (config.is_residual) {
        add_resnet(names, wanted + level + ".resnets." + block, stored + level + ".downsamples." + block);
        continue;
      }
      add_resnet(names, wanted + block, stored + block);
      if (config.attends(i)) {
        const std::string attention = std::to_string(flat++);
        add_attention(names, wanted + attention, stored + attention);
      }
    }
    if (i + 1 == levels) break;
    const std::string block = std::to_string(config.is_residual ? blocks : flat++);
    if (config.is_residual) add_resample(names, wanted + level + ".downsampler", stored + level + ".downsamples." + block);
    else add_resample(names, wanted + block, stored + block);
  }
  flat = 0;
  for (int64_t i = 0; i < levels; ++i) {
    const std::string wanted = "decoder.up_blocks." + std::to_string(i);
    const std::string stored = config.is_residual ? "decoder.upsamples." + std::to_string(i) + ".upsamples." : "decoder.upsamples.";
    if (config.is_residual) flat = 0;
    for (int64_t j = 0; j <= blocks; ++j) {
      add_resnet(names, wanted + ".resnets." + std::to_string(j), stored + std::to_string(flat++));
    }
    if (i + 1 == levels) break;
    add_resample(names, wanted + (config.is_residual ? ".upsampler" : ".upsamplers.0"), stored + std::to_string(flat++));
  }
  return names;
}

namespace {

const std::vector<double> kWan22Mean = {
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838,  0.1557,  -0.1382, 0.0542,  0.2813,  0.0891,
    0.1570,  -0.0098, 0.0375,  -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665,  -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109,  0.1567,  -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117,  0.0723,
    -0.2839, -0.2083, -0.0520, 0.3748,  0.0152,  0.1957, 0.1433,  -0.2944, 0.3573,  -0.0548, -0.1681, -0.0667};
const std::vector<double> kWan22Std = {
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
    0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
    0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744};

// The names by which a dialect's checkpoint is read.
struct Dialect {
  const char* name;
  const char* encoder_in;
  const char* encoder_blocks;
  const char* nested;       // residual form: the blocks of a level
  const char* downsampler;  // residual form: the last of them where it has a name of its own
  const char* resnet_conv;
  const char* decoder_in;
  const char* decoder_out;
  const char* latent_conv;
};
constexpr Dialect kDialects[] = {
    {"original", "encoder.conv1.weight", "encoder.downsamples", "downsamples", "", "residual.2.weight", "decoder.conv1.weight",
     "decoder.head.2.weight", "conv2.weight"},
    {"diffusers", "encoder.conv_in.weight", "encoder.down_blocks", "resnets", "downsampler", "conv1.weight",
     "decoder.conv_in.weight", "decoder.conv_out.weight", "post_quant_conv.weight"},
};

// What the blocks say: for each level its width, residual blocks and attention, and for each step down whether it halves time.
struct Levels {
  std::vector<int64_t> width, resnets;
  std::vector<double> attention;  // scales
  std::vector<bool> temporal;
  bool open = false;  // the last level has had a block

  void add(const Weights& block, const char* resnet_conv) {
    if (block.has("resample.1.weight")) {
      temporal.push_back(block.has("time_conv.weight"));
      open = false;
    } else if (block.has("to_qkv.weight")) {
      attention.push_back(std::ldexp(1.0, static_cast<int>(1 - static_cast<int64_t>(width.size()))));
    } else if (const auto shape = block.shape(resnet_conv); shape && shape->size() == 5) {
      if (!std::exchange(open, true)) {
        width.push_back(0);
        resnets.push_back(0);
      }
      width.back() = shape->front();
      ++resnets.back();
    }
  }
};

Levels read_levels(const Weights& blocks, const Dialect& dialect, bool residual) {
  Levels levels;
  for (int64_t i = 0; blocks.has_prefix(std::to_string(i)); ++i) {
    const Weights block = blocks.sub(std::to_string(i));
    if (!residual) {
      levels.add(block, dialect.resnet_conv);
      continue;
    }
    const Weights nested = block.sub(dialect.nested);
    for (int64_t j = 0; nested.has_prefix(std::to_string(j)); ++j) levels.add(nested.sub(std::to_string(j)), dialect.resnet_conv);
    if (*dialect.downsampler) levels.add(block.sub(dialect.downsampler), dialect.resnet_conv);
  }
  std::sort(levels.attention.begin(), levels.attention.end());
  levels.attention.erase(std::unique(levels.attention.begin(), levels.attention.end()), levels.attention.end());
  return levels;
}

std::optional<Config> describe(const Weights& weights, const Dialect& dialect) {
  const auto in = weights.shape(dialect.encoder_in), decoder_in = weights.shape(dialect.decoder_in),
             out = weights.shape(dialect.decoder_out), latent = weights.shape(dialect.latent_conv);
  for (const auto& shape : {in, decoder_in, out, latent}) {
    if (!shape || shape->size() != 5 || shape->front() < 1) return std::nullopt;
  }
  const Weights blocks = weights.sub(dialect.encoder_blocks);
  const bool residual = blocks.has_prefix(std::string("0.") + dialect.nested);
  const Levels levels = read_levels(blocks, dialect, residual);
  if (levels.width.empty() || levels.temporal.size() + 1 != levels.width.size()) return std::nullopt;
  std::vector<int64_t> dim_mult;
  for (int64_t width : levels.width) dim_mult.push_back(width / in->front());
  if (dim_mult.front() < 1 || dim_mult.back() < 1) return std::nullopt;

  const int64_t z_dim = latent->front();
  Config config = Config::parse("{}", weights.place())
                      .with("_class_name", std::string("AutoencoderKLWan"))
                      .with("_dialect", std::string(dialect.name))
                      .with("base_dim", in->front())
                      .with("decoder_base_dim", decoder_in->front() / dim_mult.back())
                      .with("z_dim", z_dim)
                      .with("dim_mult", dim_mult)
                      .with("num_res_blocks", levels.resnets.front())
                      .with("attn_scales", levels.attention)
                      .with("temperal_downsample", levels.temporal)
                      .with("is_residual", residual)
                      .with("in_channels", in->at(1))
                      .with("out_channels", out->front());
  if (residual) config = config.with("patch_size", int64_t{2});
  if (z_dim != 16) {  // of Wan 2.1, the class's defaults
    config = config.with("latents_mean", z_dim == 48 ? kWan22Mean : std::vector<double>())
                 .with("latents_std", z_dim == 48 ? kWan22Std : std::vector<double>());
  }
  return config;
}

}  // namespace

std::optional<Config> describe_wan_vae(const Weights& weights) {
  for (const Dialect& dialect : kDialects) {
    if (auto config = describe(weights, dialect)) return config;
  }
  return std::nullopt;
}

std::unique_ptr<Component> build_autoencoder_kl_wan(const Config& config, const Weights& weights) {
  if (config.get<std::string>("_dialect", "diffusers") != "original") return std::make_unique<AutoencoderKLWan>(config, weights);
  return std::make_unique<AutoencoderKLWan>(config, weights.renamed(original_wan_vae_names(WanVaeConfig::from(config))));
}

}  // namespace orrery::models
