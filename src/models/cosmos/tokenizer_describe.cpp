#include <ATen/ATen.h>

#include <numeric>
#include <regex>
#include <string>

#include "models/cosmos/tokenizer_config.h"
#include "orrery/error.h"

// What a Cosmos tokenizer's original file says about itself: its tensors' names and shapes, and, where those are the same
// for several releases, the release's name in its path.
namespace orrery::models {
namespace {

std::string json(const std::vector<int64_t>& values) {
  std::string text = "[";
  for (const int64_t value : values) text += (text.size() > 1 ? "," : "") + std::to_string(value);
  return text + "]";
}

/// Size of one axis of a tensor; 0 where it is absent.
int64_t axis(const Weights& weights, const std::string& name, size_t index) {
  const auto shape = weights.shape(name);
  return shape && shape->size() > index ? (*shape)[index] : 0;
}

int64_t count(const Weights& weights, const std::string& name) {
  int64_t n = 0;
  while (weights.has_prefix(name + "." + std::to_string(n))) ++n;
  return n;
}

/// What one half of a checkpoint says.
struct Half {
  bool present = false;
  int64_t patch_channels = 0, z = 0, stem = 0, blocks = 0;
  std::vector<int64_t> widths;  // of the levels, the highest resolution first
  std::vector<bool> attention;
  int64_t space = 0, time = 0;  // changes of resolution that have weights
  bool every = true;            // every inner level holds all three convolutions, as 0.1 builds them
  bool first_in_time = false;   // the decoder's first change of resolution has one in time
};

Half look(const Weights& weights, bool decoder, bool image, bool factorized) {
  const std::string conv = image ? "" : factorized ? ".0.conv3d" : ".conv3d", norm = image ? "" : ".norm";
  const Weights net = weights.sub(decoder ? "decoder" : "encoder");
  Half half;
  const int64_t in = axis(net, "conv_in" + conv + ".weight", 1), out = axis(net, "conv_out" + conv + ".weight", 0);
  half.present = in > 0;
  half.stem = axis(net, "conv_in" + conv + ".weight", 0);
  half.patch_channels = decoder ? out : in;
  half.z = decoder ? in : out;
  const std::string level = decoder ? "up" : "down";
  const int64_t levels = count(net, level);
  half.blocks = count(net, level + ".0.block") - (decoder ? 1 : 0);
  for (int64_t i = 0; i < levels; ++i) {
    const Weights at = net.sub(level, i);
    half.widths.push_back(axis(at, "block.0.norm2" + norm + ".weight", 0));
    half.attention.push_back(at.has_prefix("attn"));
    const Weights change = at.sub(decoder ? "upsample" : "downsample");
    if (i == (decoder ? 0 : levels - 1) && !image) continue;
    const bool one = change.has_prefix("conv1"), two = change.has_prefix("conv2"), three = change.has_prefix("conv3");
    half.space += image ? change.has_prefix("conv") : decoder ? two : one;
    half.time += decoder ? one : two;
    half.every = half.every && one && two && three;
    if (i == levels - 1) half.first_in_time = one;
  }
  return half;
}

/// "8x16x16" of a release's name in the path, as {8, 16}; empty where there is none.
std::vector<int64_t> compression_in(const std::string& place, bool image, bool discrete) {
  const std::string kind = std::string(discrete ? "D" : "C") + (image ? "I" : "V");
  const std::regex pattern(kind + (image ? "([0-9]{1,2})x([0-9]{1,2})" : "([0-9]{1,2})x([0-9]{1,2})x[0-9]{1,2}"));
  std::smatch match;
  if (!std::regex_search(place, match, pattern)) return {};
  return {std::stoll(match[1]), std::stoll(match[2])};
}

int64_t patch_of(int64_t channels, int64_t power) {
  for (int64_t p = 1; p <= 16; p *= 2) {
    if (3 * (power == 3 ? p * p * p : p * p) == channels) return p;
  }
  return 0;
}

}  // namespace

std::optional<Config> describe_cosmos_tokenizer(const Weights& weights) {
  const bool factorized = weights.has("encoder.conv_in.0.conv3d.weight") || weights.has("decoder.conv_in.0.conv3d.weight");
  const bool base = weights.has("encoder.conv_in.conv3d.weight") || weights.has("decoder.conv_in.conv3d.weight");
  const bool image = !factorized && !base;
  if (image && !weights.has("encoder.conv_in.weight") && !weights.has("decoder.conv_in.weight")) return std::nullopt;
  const Half encoder = look(weights, false, image, factorized), decoder = look(weights, true, image, factorized);
  const Half& half = encoder.present ? encoder : decoder;
  const int64_t patch = patch_of(half.patch_channels, factorized ? 3 : 2);
  // Without patches an image network is some other family's autoencoder.
  if (patch == 0 || (image && patch == 1) || half.widths.empty() || half.blocks < 1) return std::nullopt;
  const std::string conv = image ? ".weight" : ".conv3d.weight";
  const int64_t moments = axis(weights, "quant_conv" + conv, 0), taken = axis(weights, "post_quant_conv" + conv, 1);
  if (moments == 0 && taken == 0) return std::nullopt;

  const int64_t latent = taken > 0 ? taken : moments;
  const bool discrete = weights.has_prefix("quantizer") || weights.has_prefix("inv_quant") || latent == 6;
  std::vector<int64_t> levels{8, 8, 8, 5, 5, 5};
  for (const char* name : {"quantizer._levels", "inv_quant.quantizer._levels"}) {
    if (!weights.has(name)) continue;
    const at::Tensor stored = weights.stored(name).to(at::kLong).contiguous();
    levels.assign(stored.data_ptr<int64_t>(), stored.data_ptr<int64_t>() + stored.numel());
  }

  int64_t time = patch << half.time, space = patch << half.space;
  std::vector<int64_t> widths = half.widths;
  const bool small_decoder = encoder.present && decoder.present && decoder.widths.size() < encoder.widths.size();
  if (factorized && half.every && widths.size() > 1 && !small_decoder) {
    const std::vector<int64_t> named = compression_in(weights.place(), image, discrete);
    if (named.empty()) {
      throw Error(ErrorKind::kConfig,
                  {weights.place(), "is a Cosmos 0.1 tokenizer, whose tensors do not tell its compression", "", "",
                   "keep the release's name in the path (as in Cosmos-0.1-Tokenizer-CV8x8x8), or put a config.json with "
                   "_class_name, spatial_compression and temporal_compression beside it"});
    }
    time = named[0];
    space = named[1];
  } else if (small_decoder) {
    time = 4;  // the 0.1 generation's CV4x8x8, the only one whose halves differ in depth
    space = 8;
  }

  const int64_t channels = encoder.present ? encoder.stem
                                           : std::accumulate(widths.begin(), widths.end(), int64_t{0},
                                                             [](int64_t a, int64_t b) { return std::gcd(a, b); });
  for (int64_t& width : widths) width /= channels;
  std::vector<int64_t> attention;
  for (size_t i = 0; i < half.attention.size(); ++i) {
    if (half.attention[i]) attention.push_back((1024 / patch) >> i);
  }
  const int64_t z = decoder.present ? decoder.z : encoder.z;
  const int64_t factor = encoder.present && decoder.present ? std::max<int64_t>(encoder.z / z, 1) : 1;
  const std::string name =
      std::string(image ? "" : "Causal") + (discrete ? "Discrete" : "Continuous") + (image ? "Image" : "Video");
  const auto number = [](const char* key, int64_t value) {
    return std::string(",\"") + key + "\":" + std::to_string(value);
  };
  std::string text = "{\"_class_name\":\"" + name + "Tokenizer\",\"_dialect\":\"original\",\"patch_method\":\"haar\"";
  text += number("patch_size", patch) + number("channels", channels) + number("num_res_blocks", half.blocks);
  text += number("resolution", 1024) + number("z_channels", z) + number("z_factor", factor) + number("num_groups", 1);
  text += number("spatial_compression", space) + number("temporal_compression", time);
  text += number(discrete ? "embedding_dim" : "latent_channels", latent);
  text += ",\"channels_mult\":" + json(widths) + ",\"attn_resolutions\":" + json(attention);
  if (!image)
    text +=
        factorized ? ",\"encoder\":\"FACTORIZED\",\"decoder\":\"FACTORIZED\"" : ",\"encoder\":\"BASE\",\"decoder\":\"BASE\"";
  if (small_decoder) text += ",\"_library\":\"cosmos_tokenizer.networks\"";
  if (decoder.present && decoder.first_in_time && !decoder.every) text += ",\"legacy_mode\":true";
  if (discrete) text += ",\"quantizer\":\"FSQ\",\"levels\":" + json(levels);
  if (factor == 2) text += ",\"formulation\":\"VAE\"";
  // The windows in which the released Predict1 pipelines code long clips, each from a fresh start.
  if (!image && time == 8) text += number("window_frames", discrete ? 49 : 121);
  return Config::parse(text + "}", weights.place());
}

}  // namespace orrery::models
