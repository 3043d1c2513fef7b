#include <algorithm>
#include <string>
#include <vector>

#include "models/oasis/oasis.h"

namespace orrery::models {
namespace {

constexpr int64_t kHeadDim = 64;  // of the released networks

// Sizes along `axis`, 0 where there is no such tensor.
int64_t size_of(const Weights& weights, const std::string& name, size_t axis) {
  const auto shape = weights.shape(name);
  return shape && axis < shape->size() ? (*shape)[axis] : 0;
}

int64_t count_blocks(const Weights& weights, const std::string& list) {
  int64_t count = 0;
  while (weights.has_prefix(list + "." + std::to_string(count))) ++count;
  return count;
}

int64_t heads_of(int64_t width) {
  return std::max<int64_t>(1, width / kHeadDim);
}

}  // namespace

std::optional<Config> describe_oasis_dit(const Weights& weights) {
  const int64_t width = size_of(weights, "x_embedder.proj.weight", 0);
  if (width == 0 || !weights.has("blocks.0.s_attn.to_qkv.weight") || !weights.has("blocks.0.t_attn.to_qkv.weight"))
    return {};
  // A rotary table holds half as many frequencies as a head has channels.
  int64_t half_head = size_of(weights, "temporal_rotary_emb.freqs", 0);
  if (half_head == 0) half_head = size_of(weights, "blocks.0.t_attn.rotary_emb.freqs", 0);
  return Config()
      .with("_class_name", std::string("DiT"))
      .with("hidden_size", width)
      .with("in_channels", size_of(weights, "x_embedder.proj.weight", 1))
      .with("patch_size", size_of(weights, "x_embedder.proj.weight", 2))
      .with("depth", count_blocks(weights, "blocks"))
      .with("num_heads", half_head > 0 ? width / (2 * half_head) : heads_of(width))
      .with("external_cond_dim", size_of(weights, "external_cond.weight", 1));
}

std::optional<Config> describe_oasis_autoencoder(const Weights& weights) {
  const int64_t enc_dim = size_of(weights, "patch_embed.proj.weight", 0), dec_dim = size_of(weights, "predictor.weight", 1);
  if (enc_dim == 0 || dec_dim == 0 || !weights.has("encoder.0.attn.qkv.weight") || !weights.has("quant_conv.weight"))
    return {};
  const int64_t latent_dim = size_of(weights, "post_quant_conv.weight", 1);
  return Config()
      .with("_class_name", std::string("OasisAutoencoderKL"))
      .with("patch_size", size_of(weights, "patch_embed.proj.weight", 2))
      .with("latent_dim", latent_dim)
      .with("use_variational", size_of(weights, "quant_conv.weight", 0) == 2 * latent_dim)
      .with("enc_dim", enc_dim)
      .with("enc_depth", count_blocks(weights, "encoder"))
      .with("enc_heads", heads_of(enc_dim))
      .with("dec_dim", dec_dim)
      .with("dec_depth", count_blocks(weights, "decoder"))
      .with("dec_heads", heads_of(dec_dim));
}

}  // namespace orrery::models
