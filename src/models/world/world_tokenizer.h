#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orrery/autoencoder.h"
#include "orrery/config.h"

namespace orrery::models {

/// The tokenizer of the bundled worlds: pixel-unshuffle, small residual convolutions with GroupNorm, latents in (−1, 1).
/// Source: examples/worlds/train/ARCHITECTURE.md, section 3.
class OrreryTokenizer final : public Autoencoder {
 public:
  OrreryTokenizer(const Config& config, const Weights& weights);
  std::string class_name() const override { return "OrreryTokenizer"; }
  const CodecSpec& spec() const override { return spec_; }
  const LatentNormalization& normalization() const override { return normalization_; }
  Encoded encode_chunk(const at::Tensor& sample, CodecCache& cache, bool last) const override;
  at::Tensor decode_chunk(const at::Tensor& latent, CodecCache& cache, bool last) const override;
  int64_t preferred_encode_chunk() const override { return 16; }
  int64_t preferred_decode_chunk() const override { return 16; }

  int64_t sample_size() const { return sample_size_; }
  int64_t norm_groups() const { return norm_groups_; }
  double norm_eps() const { return norm_eps_; }

  struct Conv {
    at::Tensor weight, bias;
  };
  struct Norm {
    at::Tensor weight, bias;
  };
  struct ResBlock {
    Norm norm1, norm2;
    Conv conv1, conv2;
  };
  struct Level {
    std::optional<Conv> resample;  // "down" (stride 2) or "up" (1x1, then pixel shuffle)
    std::vector<ResBlock> blocks;
  };
  struct Network {
    Conv conv_in, conv_out;
    std::vector<Level> levels;
    Norm norm_out;
  };
  const Network& decoder_network() const { return decoder; }

 private:
  Network read(const Weights& weights, int64_t in_channels, int64_t out_channels, const std::vector<int64_t>& widths,
               const std::vector<int64_t>& blocks, bool up) const;
  at::Tensor residual(const ResBlock& block, const at::Tensor& x) const;
  at::Tensor normalised(const Norm& norm, const at::Tensor& x) const;
  at::Tensor run(const Network& network, at::Tensor x, bool up) const;

  int64_t sample_size_, norm_groups_;
  double norm_eps_;
  CodecSpec spec_;
  LatentNormalization normalization_;
  Network encoder, decoder;
};

std::unique_ptr<Component> build_orrery_tokenizer(const Config& config, const Weights& weights);

}  // namespace orrery::models
