#pragma once

#include <memory>
#include <string>

#include "models/wan/wan_vae_config.h"
#include "models/wan/wan_vae_networks.h"
#include "orrery/autoencoder.h"
#include "orrery/config.h"
#include "orrery/weights.h"
#include "orrery/work_bytes.h"

namespace orrery::models {

/// The causal video autoencoder of Wan 2.1 and 2.2 and of every model that took it over.
/// Reference: diffusers 0.42.1, src/diffusers/models/autoencoders/autoencoder_kl_wan.py;
/// Wan-Video/Wan2.1:wan/modules/vae.py, Wan-Video/Wan2.2:wan/modules/vae2_2.py.
class AutoencoderKLWan final : public Autoencoder, public TellsWorkBytes {
 public:
  /// Throws Error(kConfig) and Error(kWeights) where one of the two is not as the reference's.
  AutoencoderKLWan(const Config& config, const Weights& weights);

  std::string class_name() const override { return "AutoencoderKLWan"; }
  const CodecSpec& spec() const override { return spec_; }
  /// Throws Error(kConfig) when the config's statistics are not those of its latents.
  const LatentNormalization& normalization() const override;

  Encoded encode_chunk(const at::Tensor& sample, CodecCache& cache, bool last) const override;
  at::Tensor decode_chunk(const at::Tensor& latent, CodecCache& cache, bool last) const override;
  int64_t work_bytes(at::IntArrayRef latents) const override;
  // Deep enough in time for pairs of frames, few enough that memory does not grow with the clip.
  int64_t preferred_encode_chunk() const override { return 4 * spec_.temporal_stride; }
  int64_t preferred_decode_chunk() const override { return 3; }

 private:
  AutoencoderKLWan(const WanVaeConfig& config, const Weights& weights, std::string config_place);

  WanVaeConfig config_;
  std::string config_place_;
  CodecSpec spec_;
  LatentNormalization normalization_;
  at::ScalarType dtype_;
  at::Device device_;
  WanEncoder3d encoder_;
  layers::PointwiseConv quant_conv_;
  layers::PointwiseConv post_quant_conv_;
  WanDecoder3d decoder_;
  int64_t decoded_frames_;  // of a latent after the first
};

}  // namespace orrery::models
