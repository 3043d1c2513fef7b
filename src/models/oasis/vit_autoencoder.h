#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "layers/linear.h"
#include "models/oasis/rotary_attention.h"
#include "orrery/autoencoder.h"
#include "orrery/config.h"

namespace orrery::models {

/// The ViT-VAE of Oasis (vit-l-20): pictures are cut into patches that become one latent each.
/// Source: etched-ai/open-oasis vae.py (AutoencoderKL) at f59deef2.
class OasisAutoencoderKL final : public Autoencoder {
 public:
  OasisAutoencoderKL(const Config& config, const Weights& weights);
  std::string class_name() const override { return "OasisAutoencoderKL"; }
  const CodecSpec& spec() const override { return spec_; }
  const LatentNormalization& normalization() const override { return normalization_; }
  Encoded encode_chunk(const at::Tensor& sample, CodecCache& cache, bool last) const override;
  at::Tensor decode_chunk(const at::Tensor& latent, CodecCache& cache, bool last) const override;
  int64_t preferred_encode_chunk() const override { return 4; }
  int64_t preferred_decode_chunk() const override { return 4; }

 private:
  struct Norm {
    at::Tensor weight, bias;
  };
  struct Block {
    Norm norm1, norm2;
    RotaryAttention attn;
    layers::Linear fc1, fc2;
  };
  static Norm norm(const Weights& weights, int64_t width);
  static std::vector<Block> read(const Weights& weights, int64_t depth, int64_t width, int64_t heads);
  static at::Tensor run(const std::vector<Block>& blocks, const Norm& last, at::Tensor tokens, int64_t height, int64_t width,
                        int64_t head_dim);

  int64_t enc_dim_, dec_dim_, enc_heads_, dec_heads_;
  CodecSpec spec_;
  LatentNormalization normalization_;
  at::Tensor patch_embed_weight, patch_embed_bias;  // [D,3,P,P], [D]
  std::vector<Block> encoder, decoder;
  Norm enc_norm, dec_norm;
  layers::Linear quant_conv, post_quant_conv, predictor;
};

std::unique_ptr<Component> build_oasis_autoencoder_kl(const Config& config, const Weights& weights);

}  // namespace orrery::models
