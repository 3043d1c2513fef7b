#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layers/conv2d.h"
#include "models/tiny/taehv_blocks.h"
#include "orrery/autoencoder.h"
#include "orrery/config.h"
#include "orrery/weights.h"

namespace orrery::models {

/// What the names and shapes of a TAEHV file say; there is no config file. Lists have one item a stage, widths one more.
struct TaehvConfig {
  int64_t patch_size = 1;  ///< pixels of a side that become channels before the first convolution
  int64_t latent_channels = 16;
  bool super = false;  ///< the larger decoder (arch_variant "super")
  std::vector<bool> encoder_time_downscale = {true, true, false};
  std::vector<bool> decoder_time_upscale = {false, true, true};
  std::vector<int64_t> encoder_widths = {64, 64, 64, 64}, encoder_blocks = {3, 3, 3};
  std::vector<int64_t> decoder_widths = {256, 128, 64, 64}, decoder_blocks = {3, 3, 3};

  /// Reads the constructor's arguments under their original names, and the sizes that describe_taehv adds.
  static TaehvConfig from(const Config& config);
};

/// Frames [T·B,3·patch²,H,W] in [0,1] to latents [T/stride·B,C,h,w], time outside.
class TaehvEncoder {
 public:
  TaehvEncoder(const Weights& weights, const TaehvConfig& config);
  at::Tensor operator()(const at::Tensor& frames, std::vector<at::Tensor>& slots, int64_t batch) const;
  int64_t num_slots() const { return num_slots_; }

 private:
  struct Stage {
    int64_t pool;         // frames that become one
    layers::Conv2d down;  // TPool and the strided convolution
    std::vector<MemoryBlock> blocks;
  };
  layers::Conv2d conv_in_;
  std::vector<Stage> stages_;
  std::optional<layers::Conv2d> conv_out_;
  int64_t num_slots_ = 0;
};

/// Latents [t·B,C,h,w] to frames [t·stride·B,3·patch²,H,W], time outside, not clamped.
class TaehvDecoder {
 public:
  TaehvDecoder(const Weights& weights, const TaehvConfig& config);
  at::Tensor operator()(const at::Tensor& latents, std::vector<at::Tensor>& slots, int64_t batch) const;
  int64_t num_slots() const { return num_slots_; }

 private:
  // After its blocks a stage doubles the picture's side and grows the number of frames.
  struct Grow {
    layers::UpsampleConv2d up;
  };
  struct ShuffleGrow {
    layers::Conv2d conv, grow;
    int64_t stride;
  };
  struct Stage {
    std::vector<MemoryBlock> blocks;
    std::variant<Grow, ShuffleGrow> up;
  };
  bool super_;
  layers::Conv2d conv_in_;
  std::vector<Stage> stages_;
  std::optional<layers::Conv2d> conv_out_;
  int64_t num_slots_ = 0;
};

/// The tiny video autoencoders (taehv, taew2_1, taew2_2, taehv1_5, taeltx and their "super" decoders).
/// Latents are those that the diffusion model sees, so there is no normalisation. Any number of frames is coded: the encoder
/// repeats the last one; the decoder's first stride - 1 frames stand for what came before the clip and are dropped.
/// Source: madebyollin/taehv:taehv.py@1f14a56.
class TAEHV final : public Autoencoder {
 public:
  TAEHV(const Config& config, const Weights& weights);

  std::string class_name() const override { return "TAEHV"; }
  const CodecSpec& spec() const override { return spec_; }
  const LatentNormalization& normalization() const override { return normalization_; }
  bool has_encoder() const override { return encoder_.has_value(); }
  bool has_decoder() const override { return decoder_.has_value(); }
  Encoded encode_chunk(const at::Tensor& sample, CodecCache& cache, bool last) const override;
  at::Tensor decode_chunk(const at::Tensor& latent, CodecCache& cache, bool last) const override;
  int64_t preferred_encode_chunk() const override { return spec_.temporal_stride; }
  int64_t preferred_decode_chunk() const override { return 1; }

 private:
  TaehvConfig config_;
  at::ScalarType dtype_;
  CodecSpec spec_;
  LatentNormalization normalization_;
  std::optional<TaehvEncoder> encoder_;
  std::optional<TaehvDecoder> decoder_;
};

/// Recognises a TAEHV file by its TPool and TGrow layers.
std::optional<Config> describe_taehv(const Weights& weights);
std::unique_ptr<Component> build_taehv(const Config& config, const Weights& weights);

}  // namespace orrery::models
