#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "layers/conv2d.h"
#include "orrery/autoencoder.h"
#include "orrery/config.h"
#include "orrery/weights.h"

namespace orrery::models {

/// The sizes of one tiny image autoencoder, whichever of the two layouts its file has. The n-th stage has `blocks[n]` blocks
/// of `widths[n]` channels; stages are joined by a change of size.
struct TaesdConfig {
  int64_t latent_channels = 4;
  int64_t spatial_stride = 8;
  int64_t stem_width = 0;  ///< above 0: two strided convolutions come first, the first of this width (32 pixels a latent)
  std::vector<int64_t> encoder_widths = {64, 64, 64, 64}, encoder_blocks = {1, 3, 3, 3};
  std::vector<int64_t> decoder_widths = {64, 64, 64, 64}, decoder_blocks = {3, 3, 3, 1};
  bool pooled = false;  ///< the blocks at the latents' resolution add a normalised map of their input (TAEF2)
  std::string activation = "relu";
  std::string upsample = "nearest";
  int64_t upsample_factor = 2;
};

/// Three convolutions and a skip; pooled blocks first add conv - GroupNorm over the whole picture - ReLU - conv of their
/// input.
class TaesdBlock {
 public:
  TaesdBlock(const Weights& weights, int64_t width, bool pooled, const std::string& activation);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  struct Pool {
    layers::Conv2d conv_0;
    at::Tensor norm_weight, norm_bias;
    layers::Conv2d conv_3;
  };
  std::optional<Pool> pool_;
  layers::Conv2d conv_0_, conv_2_, conv_4_;
  std::string activation_;
};

/// Pictures [N,3,H,W] in [0,1] to latents [N,C,h,w]. `weights` holds the numbered layers.
class TaesdEncoder {
 public:
  TaesdEncoder(const Weights& weights, const TaesdConfig& config);
  at::Tensor operator()(const at::Tensor& pictures) const;

 private:
  struct Stage {
    std::optional<layers::Conv2d> down;  // absent in the first stage
    std::vector<TaesdBlock> blocks;
  };
  std::vector<layers::Conv2d> stem_;  // one convolution; or two, each with a ReLU
  std::vector<Stage> stages_;
  std::optional<layers::Conv2d> conv_out_;
};

/// Latents [N,C,h,w] to pictures [N,3,H,W] in about [0,1], not clamped. `weights` holds the numbered layers, the first
/// convolution is number `first`.
class TaesdDecoder {
 public:
  TaesdDecoder(const Weights& weights, int64_t first, const TaesdConfig& config);
  at::Tensor operator()(const at::Tensor& latents) const;

 private:
  struct Resize {
    std::string mode;
    int64_t factor;
    layers::Conv2d conv;
  };
  struct Stage {
    std::vector<TaesdBlock> blocks;
    std::variant<std::monostate, layers::UpsampleConv2d, Resize> up;  // nothing after the last stage
  };
  layers::Conv2d conv_in_;
  std::vector<Stage> stages_;
  std::optional<layers::Conv2d> conv_out_;
  std::string activation_;
};

/// The tiny image autoencoders: TAESD, TAESDXL, TAESD3, TAEF1, TAEF2, TAESANA in their own layout, and diffusers'
/// AutoencoderTiny. Each frame of a clip is coded alone. Neither the latents nor the output are scaled or clamped.
/// Sources: madebyollin/taesd:taesd.py@5cccb12, diffusers:models/autoencoders/autoencoder_tiny.py.
class TinyAutoencoder final : public Autoencoder {
 public:
  /// `dtype` is that of the arithmetic. Either half may be absent.
  TinyAutoencoder(std::string class_name, const TaesdConfig& config, LatentNormalization normalization, at::ScalarType dtype,
                  std::optional<TaesdEncoder> encoder, std::optional<TaesdDecoder> decoder);

  std::string class_name() const override { return class_name_; }
  const CodecSpec& spec() const override { return spec_; }
  const LatentNormalization& normalization() const override { return normalization_; }
  bool has_encoder() const override { return encoder_.has_value(); }
  bool has_decoder() const override { return decoder_.has_value(); }
  Encoded encode_chunk(const at::Tensor& sample, CodecCache& cache, bool last) const override;
  at::Tensor decode_chunk(const at::Tensor& latent, CodecCache& cache, bool last) const override;
  int64_t preferred_encode_chunk() const override { return 1; }
  int64_t preferred_decode_chunk() const override { return 1; }

 private:
  std::string class_name_;
  CodecSpec spec_;
  LatentNormalization normalization_;
  at::ScalarType dtype_;
  std::optional<TaesdEncoder> encoder_;
  std::optional<TaesdDecoder> decoder_;
};

/// Recognises a TAESD file: a whole tokenizer (encoder.*, decoder.*), or one half with bare layer numbers.
std::optional<Config> describe_taesd(const Weights& weights);
std::unique_ptr<Component> build_taesd(const Config& config, const Weights& weights);
std::unique_ptr<Component> build_autoencoder_tiny(const Config& config, const Weights& weights);

}  // namespace orrery::models
