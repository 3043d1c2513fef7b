#include "models/oasis/vit_autoencoder.h"

#include <ATen/ATen.h>

#include <numbers>

#include "layers/norm.h"

namespace orrery::models {
namespace {

constexpr double kNormEps = 1e-6;
constexpr double kLatentScale = 0.07843137255;  // open-oasis generate.py: between the encoder's mean and what dynamics sees

at::Tensor fold_time(const at::Tensor& x) {
  return x.transpose(1, 2).flatten(0, 1);
}  // [B,C,T,H,W] → [B·T,C,H,W]
at::Tensor unfold_time(const at::Tensor& x, int64_t batch) {
  return x.unflatten(0, {batch, -1}).transpose(1, 2).contiguous();
}

}  // namespace

OasisAutoencoderKL::OasisAutoencoderKL(const Config& config, const Weights& weights)
    : enc_dim_(config.get<int64_t>("enc_dim", 1024)),
      dec_dim_(config.get<int64_t>("dec_dim", 1024)),
      enc_heads_(config.get<int64_t>("enc_heads", 16)),
      dec_heads_(config.get<int64_t>("dec_heads", 16)) {
  const auto patch = config.get<int64_t>("patch_size", 20), channels = config.get<int64_t>("latent_dim", 16);
  const int64_t moments = config.get<bool>("use_variational", true) ? 2 * channels : channels;  // mean, then log-variance
  spec_ = {.spatial_stride = patch, .latent_channels = channels, .image = true};
  normalization_.scale = kLatentScale;
  patch_embed_weight = weights.get("patch_embed.proj.weight", {enc_dim_, 3, patch, patch});
  patch_embed_bias = weights.get("patch_embed.proj.bias", {enc_dim_});
  encoder = read(weights.sub("encoder"), config.get<int64_t>("enc_depth", 6), enc_dim_, enc_heads_);
  enc_norm = norm(weights.sub("enc_norm"), enc_dim_);
  quant_conv = layers::Linear(weights.sub("quant_conv"), enc_dim_, moments, /*bias=*/true);
  post_quant_conv = layers::Linear(weights.sub("post_quant_conv"), channels, dec_dim_, /*bias=*/true);
  decoder = read(weights.sub("decoder"), config.get<int64_t>("dec_depth", 12), dec_dim_, dec_heads_);
  dec_norm = norm(weights.sub("dec_norm"), dec_dim_);
  predictor = layers::Linear(weights.sub("predictor"), dec_dim_, 3 * patch * patch, /*bias=*/true);
  for (const char* key : {"input_height", "input_width"}) config.find<int64_t>(key);  // any size is coded
}

OasisAutoencoderKL::Norm OasisAutoencoderKL::norm(const Weights& weights, int64_t width) {
  return {weights.get("weight", {width}), weights.get("bias", {width})};
}

std::vector<OasisAutoencoderKL::Block> OasisAutoencoderKL::read(const Weights& weights, int64_t depth, int64_t width,
                                                                int64_t heads) {
  std::vector<Block> blocks;
  for (int64_t i = 0; i < depth; ++i) {
    const Weights w = weights.sub(std::to_string(i));
    blocks.push_back({norm(w.sub("norm1"), width), norm(w.sub("norm2"), width),
                      RotaryAttention(w.sub("attn"), "qkv", "proj", width, heads, /*qkv_bias=*/true),
                      layers::Linear(w.sub("mlp.fc1"), width, 4 * width, /*bias=*/true),
                      layers::Linear(w.sub("mlp.fc2"), 4 * width, width, /*bias=*/true)});
  }
  return blocks;
}

at::Tensor OasisAutoencoderKL::run(const std::vector<Block>& blocks, const Norm& last, at::Tensor tokens, int64_t height,
                                   int64_t width, int64_t head_dim) {
  // Half of each head turns; the frequencies reach as high as the picture has tokens.
  const double top = static_cast<double>(height * width) / 2;
  const at::Tensor frequencies = at::linspace(1.0, top, head_dim / 8, tokens.options().dtype(at::kFloat)) * std::numbers::pi;
  const layers::Rotary rotary = picture_rotary(frequencies, height, width, head_dim / 2);
  for (const Block& block : blocks) {
    tokens =
        tokens + block.attn.everywhere(layers::layer_norm(tokens, kNormEps, block.norm1.weight, block.norm1.bias), rotary);
    const at::Tensor inner = block.fc1(layers::layer_norm(tokens, kNormEps, block.norm2.weight, block.norm2.bias));
    tokens = tokens + block.fc2(at::gelu(inner));
  }
  return layers::layer_norm(tokens, kNormEps, last.weight, last.bias);
}

Encoded OasisAutoencoderKL::encode_chunk(const at::Tensor& sample, CodecCache&, bool) const {
  const at::Tensor patches =
      at::conv2d(fold_time(sample), patch_embed_weight, patch_embed_bias, spec_.spatial_stride);  // [B·T,D,h,w]
  const int64_t height = patches.size(2), width = patches.size(3);
  const at::Tensor tokens =
      run(encoder, enc_norm, patches.flatten(2).transpose(1, 2).contiguous(), height, width, enc_dim_ / enc_heads_);
  const at::Tensor mean = quant_conv(tokens).narrow(-1, 0, spec_.latent_channels);  // [B·T,h·w,C]
  return {unfold_time(mean.transpose(1, 2).unflatten(2, {height, width}), sample.size(0)), {}};
}

at::Tensor OasisAutoencoderKL::decode_chunk(const at::Tensor& latent, CodecCache&, bool) const {
  const int64_t height = latent.size(3), width = latent.size(4), patch = spec_.spatial_stride;
  const at::Tensor codes = fold_time(latent).flatten(2).transpose(1, 2);  // [B·T,h·w,C]
  const at::Tensor tokens = run(decoder, dec_norm, post_quant_conv(codes), height, width, dec_dim_ / dec_heads_);
  // [B·T,h,w,3,P,P] → [B·T,3,h,P,w,P] → [B·T,3,H,W]
  const at::Tensor pixels = predictor(tokens).view({-1, height, width, 3, patch, patch}).permute({0, 3, 1, 4, 2, 5});
  return unfold_time(pixels.reshape({-1, 3, height * patch, width * patch}), latent.size(0));
}

std::unique_ptr<Component> build_oasis_autoencoder_kl(const Config& config, const Weights& weights) {
  return std::make_unique<OasisAutoencoderKL>(config, weights);
}

}  // namespace orrery::models
