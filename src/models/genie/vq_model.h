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
#include "orrery/work_bytes.h"

namespace orrery::models {

/// silu(group norm of 32 groups), as it stands before every convolution of the network.
class VqNorm {
 public:
  VqNorm(const Weights& weights, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  at::Tensor weight_, bias_;
};

/// Two convolutions beside a skip.
class VqBlock {
 public:
  VqBlock(const Weights& weights, int64_t in, int64_t out);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  VqNorm norm1_, norm2_;
  layers::Conv2d conv1_, conv2_;
  std::optional<layers::Conv2d> nin_shortcut_;
};

/// The picture tokenizer of 1X's world model, Open-MAGVIT2: every code is a row of signs, its index their bits, the first
/// channel's the highest. Each frame of a clip is coded alone. Source:
/// 1x-technologies/1xgpt:magvit2/models/lfqgan.py@0069734.
class VQModel final : public Autoencoder, public TellsWorkBytes {
 public:
  VQModel(const Config& config, const Weights& weights);

  std::string class_name() const override { return "VQModel"; }
  const CodecSpec& spec() const override { return spec_; }
  const LatentNormalization& normalization() const override { return normalization_; }
  Encoded encode_chunk(const at::Tensor& sample, CodecCache& cache, bool last) const override;
  at::Tensor decode_chunk(const at::Tensor& latent, CodecCache& cache, bool last) const override;
  at::Tensor codes_of(const at::Tensor& indices) const override;
  int64_t preferred_encode_chunk() const override { return 1; }
  int64_t preferred_decode_chunk() const override { return 1; }
  int64_t work_bytes(at::IntArrayRef latents) const override;

 private:
  struct Stage {
    std::vector<VqBlock> blocks;
    std::optional<layers::Conv2d> scale;  // halves the picture, or makes the channels of one twice as large
  };
  struct Half {
    std::vector<layers::Conv2d> conv_in, conv_out;  // one each
    std::vector<Stage> stages;                      // in the order in which they run
    std::vector<VqBlock> mid;
    std::vector<VqNorm> norm_out;
  };

  CodecSpec spec_;
  LatentNormalization normalization_;
  at::ScalarType dtype_;
  int64_t base_channels_ = 0;
  Half encoder_, decoder_;
};

std::optional<Config> describe_vq_model(const Weights& weights);
std::unique_ptr<Component> build_vq_model(const Config& config, const Weights& weights);

}  // namespace orrery::models
