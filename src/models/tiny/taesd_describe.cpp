#include <ATen/ATen.h>

#include <initializer_list>
#include <utility>

#include "models/tiny/taesd.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

struct Half {
  std::vector<int64_t> widths, blocks;
  int64_t latent_channels = 0;
  int64_t stem_width = 0;
  bool pooled = false;
};

// One size of a 4-d tensor of a numbered layer; 0 where there is none.
int64_t size_of(const Weights& weights, int64_t layer, const char* name, size_t dim) {
  const auto shape = weights.sub(std::to_string(layer)).shape(name);
  return shape && shape->size() == 4 ? (*shape)[dim] : 0;
}

bool is_block(const Weights& weights, int64_t layer) {
  return size_of(weights, layer, "conv.0.weight", 0) > 0;
}

int64_t count_blocks(const Weights& weights, int64_t& layer) {
  int64_t count = 0;
  for (; is_block(weights, layer); ++layer) ++count;
  return count;
}

// A convolution between stages has no bias, the last one has.
bool changes_size(const Weights& weights, int64_t layer) {
  return size_of(weights, layer, "weight", 0) > 0 && !weights.has(std::to_string(layer) + ".bias");
}

std::optional<Half> read_encoder(const Weights& weights) {
  if (size_of(weights, 0, "weight", 1) != 3) return std::nullopt;
  Half half;
  const bool strided_stem = !is_block(weights, 1);  // conv, ReLU, conv, ReLU
  if (strided_stem) half.stem_width = size_of(weights, 0, "weight", 0);
  int64_t layer = strided_stem ? 4 : 1;
  if (!is_block(weights, layer)) return std::nullopt;
  half.widths.push_back(size_of(weights, layer, "conv.0.weight", 0));
  half.blocks.push_back(count_blocks(weights, layer));
  while (changes_size(weights, layer)) {
    half.widths.push_back(size_of(weights, layer, "weight", 0));
    half.blocks.push_back(count_blocks(weights, ++layer));
  }
  half.pooled = weights.has_prefix(std::to_string(layer - 1) + ".pool");
  half.latent_channels = size_of(weights, layer, "weight", 0);
  return half.latent_channels > 0 ? std::optional(half) : std::nullopt;
}

// clamp, conv, ReLU, then stages of blocks, upsampling, conv; conv.
std::optional<Half> read_decoder(const Weights& weights) {
  int64_t layer = 3;
  if (weights.has_prefix("0") || size_of(weights, 1, "weight", 0) == 0 || !is_block(weights, layer)) return std::nullopt;
  Half half;
  half.latent_channels = size_of(weights, 1, "weight", 1);
  half.pooled = weights.has_prefix("3.pool");
  half.widths.push_back(size_of(weights, 1, "weight", 0));
  half.blocks.push_back(count_blocks(weights, layer));
  while (changes_size(weights, layer + 1)) {
    half.widths.push_back(size_of(weights, ++layer, "weight", 0));
    half.blocks.push_back(count_blocks(weights, ++layer));
  }
  return size_of(weights, layer, "weight", 0) == 3 ? std::optional(half) : std::nullopt;
}

int64_t stride_of(size_t stages, bool strided_stem) {
  return int64_t{strided_stem ? 4 : 1} << (stages - 1);
}

void require_lengths(const std::vector<int64_t>& widths, const std::vector<int64_t>& blocks, const std::string& place) {
  if (widths.size() == blocks.size() && !widths.empty()) return;
  throw Error(ErrorKind::kConfig, {.place = place,
                                   .what = "the lists of widths and of block counts do not belong together",
                                   .expected = "one of each for every stage",
                                   .got = std::to_string(widths.size()) + " and " + std::to_string(blocks.size())});
}

void require_one_of(const std::string& value, std::initializer_list<const char*> known, const std::string& place) {
  std::string list;
  for (const char* name : known) {
    if (value == name) return;
    list += (list.empty() ? "" : ", ") + std::string(name);
  }
  throw Error(ErrorKind::kConfig, {.place = place, .what = "is not known", .expected = "one of " + list, .got = value});
}

}  // namespace

std::optional<Config> describe_taesd(const Weights& weights) {
  // A half in a file of its own has bare numbers.
  const auto encoder = read_encoder(weights.has_prefix("encoder") ? weights.sub("encoder") : weights);
  const auto decoder = read_decoder(weights.has_prefix("decoder") ? weights.sub("decoder") : weights);
  if (!encoder && !decoder) return std::nullopt;
  const auto& any = encoder ? *encoder : *decoder;
  if (encoder && decoder && encoder->latent_channels != decoder->latent_channels) {
    throw Error(ErrorKind::kWeights, {.place = weights.place(),
                                      .what = "the encoder and the decoder are of two models",
                                      .expected = std::to_string(encoder->latent_channels) + " latent channels in both",
                                      .got = std::to_string(decoder->latent_channels) + " in the decoder"});
  }
  auto config = Config().with("_class_name", std::string("TAESD")).with("latent_channels", any.latent_channels);
  config = config.with("use_midblock_gn", any.pooled);
  if (encoder) {
    config = config.with("stem_width", encoder->stem_width)
                 .with("encoder_widths", encoder->widths)
                 .with("encoder_blocks", encoder->blocks);
  }
  if (decoder) config = config.with("decoder_widths", decoder->widths).with("decoder_blocks", decoder->blocks);
  return config;
}

std::unique_ptr<Component> build_taesd(const Config& given, const Weights& weights) {
  // A hand-written config.json may hold the constructor's arguments alone; the sizes then follow from the tensors.
  const bool sized = given.has("encoder_widths") || given.has("decoder_widths");
  const auto config = sized ? given : describe_taesd(weights).value_or(given);
  const bool encodes = config.has("encoder_widths") || !config.has("decoder_widths");
  const bool decodes = config.has("decoder_widths") || !config.has("encoder_widths");

  TaesdConfig c;
  c.latent_channels = config.get("latent_channels", c.latent_channels);
  c.pooled = config.get("use_midblock_gn", c.pooled);
  c.stem_width = config.get("stem_width", c.stem_width);
  c.encoder_widths = config.get("encoder_widths", c.encoder_widths);
  c.encoder_blocks = config.get("encoder_blocks", c.encoder_blocks);
  c.decoder_widths = config.get("decoder_widths", c.decoder_widths);
  c.decoder_blocks = config.get("decoder_blocks", c.decoder_blocks);
  require_lengths(c.encoder_widths, c.encoder_blocks, config.place());
  require_lengths(c.decoder_widths, c.decoder_blocks, config.place());
  c.spatial_stride =
      encodes ? stride_of(c.encoder_widths.size(), c.stem_width > 0) : stride_of(c.decoder_widths.size(), false);

  std::optional<TaesdEncoder> encoder;
  std::optional<TaesdDecoder> decoder;
  if (encodes) encoder.emplace(weights.has_prefix("encoder") ? weights.sub("encoder") : weights, c);
  if (decodes) decoder.emplace(weights.has_prefix("decoder") ? weights.sub("decoder") : weights, /*first=*/1, c);
  return std::make_unique<TinyAutoencoder>("TAESD", c, LatentNormalization(), weights.dtype(), std::move(encoder),
                                           std::move(decoder));
}

std::unique_ptr<Component> build_autoencoder_tiny(const Config& config, const Weights& weights) {
  for (const char* key : {"in_channels", "out_channels"}) {
    if (const auto channels = config.get<int64_t>(key, 3); channels != 3) {
      throw Error(ErrorKind::kUnsupported, {.place = config.place() + ": " + key,
                                            .what = "is not a picture's",
                                            .expected = "3",
                                            .got = std::to_string(channels)});
    }
  }
  TaesdConfig c;
  c.latent_channels = config.get("latent_channels", c.latent_channels);
  c.encoder_widths = config.get("encoder_block_out_channels", c.encoder_widths);
  c.encoder_blocks = config.get("num_encoder_blocks", c.encoder_blocks);
  c.decoder_widths = config.get("decoder_block_out_channels", c.decoder_widths);
  c.decoder_blocks = config.get("num_decoder_blocks", c.decoder_blocks);
  c.activation = config.get("act_fn", c.activation);
  c.upsample = config.get("upsample_fn", c.upsample);
  c.upsample_factor = config.get("upsampling_scaling_factor", c.upsample_factor);
  require_lengths(c.encoder_widths, c.encoder_blocks, config.place());
  require_lengths(c.decoder_widths, c.decoder_blocks, config.place());
  require_one_of(c.activation, {"relu", "silu", "swish", "mish", "gelu"}, config.place() + ": act_fn");
  require_one_of(c.upsample, {"nearest", "nearest-exact", "bilinear", "bicubic"}, config.place() + ": upsample_fn");
  c.spatial_stride = stride_of(c.encoder_widths.size(), false);

  LatentNormalization normalization;
  normalization.scale = config.get("scaling_factor", 1.0);
  if (const double shift = config.get("shift_factor", 0.0); shift != 0) {
    normalization.mean = at::full({c.latent_channels}, shift);
    normalization.std = at::ones({c.latent_channels});
  }
  return std::make_unique<TinyAutoencoder>("AutoencoderTiny", c, normalization, weights.dtype(),
                                           TaesdEncoder(weights.sub("encoder.layers"), c),
                                           TaesdDecoder(weights.sub("decoder.layers"), /*first=*/0, c));
}

}  // namespace orrery::models
