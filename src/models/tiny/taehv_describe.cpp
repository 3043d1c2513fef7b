#include <cmath>
#include <filesystem>

#include "models/tiny/taehv.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

// What the tensors of one half say.
struct Half {
  std::vector<int64_t> widths, blocks;
  std::vector<bool> halvings;
  int64_t latent_channels = 0, pixel_channels = 0;
};

// The tensor `layer`.`name`'s size of one dimension; 0 where there is no such tensor.
int64_t size_of(const Weights& weights, int64_t layer, const char* name, size_t dim) {
  const auto shape = weights.sub(std::to_string(layer)).shape(name);
  return shape && shape->size() == 4 ? (*shape)[dim] : 0;
}

int64_t count_blocks(const Weights& weights, int64_t& layer) {
  int64_t count = 0;
  for (; size_of(weights, layer, "conv.0.weight", 0) > 0; ++layer) ++count;
  return count;
}

// conv, ReLU, then stages of TPool, strided conv, blocks; conv.
std::optional<Half> read_encoder(const Weights& weights) {
  Half half;
  half.pixel_channels = size_of(weights, 0, "weight", 1);
  half.widths.push_back(size_of(weights, 0, "weight", 0));
  int64_t layer = 2;
  while (const int64_t pooled = size_of(weights, layer, "conv.weight", 1)) {
    half.halvings.push_back(pooled == 2 * half.widths.back());
    half.widths.push_back(size_of(weights, ++layer, "weight", 0));
    half.blocks.push_back(count_blocks(weights, ++layer));
  }
  half.latent_channels = size_of(weights, layer, "weight", 0);
  if (half.blocks.empty() || half.latent_channels == 0 || half.pixel_channels == 0) return std::nullopt;
  return half;
}

// Base: clamp, conv, ReLU, then stages of blocks, upsample, TGrow, conv; ReLU, conv.
// Super: conv, then stages of blocks, conv, ReLU, pixel shuffle, TGrow; conv.
std::optional<Half> read_decoder(const Weights& weights, bool super) {
  Half half;
  half.latent_channels = size_of(weights, super ? 0 : 1, "weight", 1);
  half.widths.push_back(size_of(weights, super ? 0 : 1, "weight", 0));
  int64_t layer = super ? 1 : 3;
  while (true) {
    const int64_t blocks = count_blocks(weights, layer);
    const int64_t grow = layer + (super ? 3 : 1);
    const int64_t in = size_of(weights, grow, "conv.weight", 1);
    if (in == 0) break;
    half.blocks.push_back(blocks);
    half.halvings.push_back(size_of(weights, grow, "conv.weight", 0) == 2 * in);
    half.widths.push_back(super ? in : size_of(weights, grow + 1, "weight", 0));
    layer = grow + (super ? 1 : 2);
  }
  half.pixel_channels = size_of(weights, layer + (super ? 0 : 1), "weight", 0);
  if (half.blocks.empty() || half.latent_channels == 0 || half.pixel_channels == 0) return std::nullopt;
  return half;
}

}  // namespace

std::optional<Config> describe_taehv(const Weights& weights) {
  const bool super = weights.has("decoder.0.weight");
  const auto encoder = read_encoder(weights.sub("encoder"));
  const auto decoder = read_decoder(weights.sub("decoder"), super);
  if (!encoder && !decoder) return std::nullopt;
  // Two relatives share these tensors and differ in how they cut a clip, which only the file's name tells, as in the
  // reference.
  const auto file = std::filesystem::path(weights.place()).filename().string();
  for (const char* relative : {"taecvx", "taeh3"}) {
    if (file.find(relative) == std::string::npos) continue;
    throw Error(ErrorKind::kUnsupported,
                {.place = weights.place(),
                 .what = std::string(relative) + " cuts clips by rules of its own, which are not there",
                 .expected = "taehv, taew2_1, taew2_2, taehv1_5, taeltx or a \"super\" form of them"});
  }
  const auto& any = encoder ? *encoder : *decoder;
  auto config = Config()
                    .with("_class_name", std::string("TAEHV"))
                    .with("patch_size", static_cast<int64_t>(std::lround(std::sqrt(any.pixel_channels / 3.0))))
                    .with("latent_channels", any.latent_channels);
  if (super) config = config.with("arch_variant", std::string("super"));
  if (encoder) {
    config = config.with("encoder_time_downscale", encoder->halvings)
                 .with("encoder_widths", encoder->widths)
                 .with("encoder_blocks", encoder->blocks);
  }
  if (decoder) {
    config = config.with("decoder_time_upscale", decoder->halvings)
                 .with("decoder_widths", decoder->widths)
                 .with("decoder_blocks", decoder->blocks);
  }
  return config;
}

}  // namespace orrery::models
