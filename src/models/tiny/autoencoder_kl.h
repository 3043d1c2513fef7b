#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layers/conv2d.h"
#include "orrery/autoencoder.h"
#include "orrery/config.h"
#include "orrery/weights.h"

namespace orrery::models {

/// A group norm followed by SiLU, as it stands before every convolution of AutoencoderKL.
class KlNorm {
 public:
  KlNorm(const Weights& weights, int64_t channels, int64_t groups);
  at::Tensor operator()(const at::Tensor& x) const;  ///< silu(norm(x))
  at::Tensor norm(const at::Tensor& x) const;

 private:
  int64_t groups_;
  at::Tensor weight_, bias_;
};

/// ResnetBlock2D without a time embedding.
class KlResnet {
 public:
  KlResnet(const Weights& weights, int64_t in, int64_t out, int64_t groups);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  KlNorm norm1_;
  layers::Conv2d conv1_;
  KlNorm norm2_;
  layers::Conv2d conv2_;
  std::optional<layers::Conv2d> conv_shortcut_;
};

/// Attention of one head over all places of the picture. Checkpoints before 2023 call its parts query, key, value,
/// proj_attn.
class KlAttention {
 public:
  KlAttention(const Weights& weights, int64_t channels, int64_t groups);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  struct Projection {
    at::Tensor weight, bias;
  };
  static Projection read(const Weights& weights, const char* name, const char* old_name, int64_t channels);

  KlNorm group_norm_;
  Projection to_q_, to_k_, to_v_, to_out_;
};

/// The image autoencoder of Stable Diffusion and of the world models built on it; each frame of a clip is coded alone.
/// Latents are the mean of the posterior. Source: diffusers:models/autoencoders/autoencoder_kl.py.
class AutoencoderKL final : public Autoencoder {
 public:
  AutoencoderKL(const Config& config, const Weights& weights);

  std::string class_name() const override { return "AutoencoderKL"; }
  const CodecSpec& spec() const override { return spec_; }
  const LatentNormalization& normalization() const override { return normalization_; }
  Encoded encode_chunk(const at::Tensor& sample, CodecCache& cache, bool last) const override;
  at::Tensor decode_chunk(const at::Tensor& latent, CodecCache& cache, bool last) const override;
  int64_t preferred_encode_chunk() const override { return 1; }
  int64_t preferred_decode_chunk() const override { return 1; }

 private:
  struct Mid {
    std::vector<KlResnet> resnets;
    std::optional<KlAttention> attention;
    at::Tensor operator()(at::Tensor x) const;
  };
  struct Stage {
    std::vector<KlResnet> resnets;
    std::optional<layers::Conv2d> down;        // after its resnets, in the encoder
    std::optional<layers::UpsampleConv2d> up;  // after its resnets, in the decoder
    at::Tensor up_bias;
  };
  struct Half {
    std::optional<layers::Conv2d> conv_in;
    std::vector<Stage> stages;
    std::optional<Mid> mid;
    std::optional<KlNorm> conv_norm_out;
    std::optional<layers::Conv2d> conv_out;
  };
  static Mid read_mid(const Weights& weights, int64_t channels, int64_t groups, bool attention);
  at::Tensor encode_pictures(const at::Tensor& pictures) const;  // [N,3,H,W] → [N,C,h,w]
  at::Tensor decode_pictures(const at::Tensor& latents) const;   // [N,C,h,w] → [N,3,H,W]

  CodecSpec spec_;
  LatentNormalization normalization_;
  at::ScalarType dtype_;
  Half encoder_, decoder_;
  std::optional<layers::Conv2d> quant_conv_, post_quant_conv_;
};

std::unique_ptr<Component> build_autoencoder_kl(const Config& config, const Weights& weights);

}  // namespace orrery::models
