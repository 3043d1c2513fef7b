#pragma once

#include <memory>
#include <optional>
#include <string>

#include "models/cosmos/quantizer.h"
#include "models/cosmos/tokenizer_config.h"
#include "models/cosmos/tokenizer_network.h"
#include "orrery/autoencoder.h"
#include "orrery/work_bytes.h"

namespace orrery::models {

/// Every Cosmos tokenizer, 0.1 and 1.0: CI, CV, DI, DV at all their compressions, from the original's files (whole, encoder
/// or decoder alone) and from diffusers' AutoencoderKLCosmos folders. class_name() is the reference's class.
class CosmosAutoencoder : public Autoencoder, public TellsWorkBytes {
 public:
  CosmosAutoencoder(const Config& config, const Weights& weights);

  std::string class_name() const override { return plan_.class_name; }
  const CodecSpec& spec() const override { return spec_; }
  const LatentNormalization& normalization() const override { return plan_.normalization; }
  bool has_encoder() const override { return encoder_.has_value(); }
  bool has_decoder() const override { return decoder_.has_value(); }
  Encoded encode_chunk(const at::Tensor& sample, CodecCache& cache, bool last) const override;
  at::Tensor decode_chunk(const at::Tensor& latent, CodecCache& cache, bool last) const override;
  at::Tensor codes_of(const at::Tensor& indices) const override;
  int64_t preferred_encode_chunk() const override;
  int64_t preferred_decode_chunk() const override;
  int64_t work_bytes(at::IntArrayRef latents) const override;

 private:
  Encoded moments_to_latent(const at::Tensor& moments) const;
  void require_half(bool present, const char* half) const;

  CosmosTokenizerPlan plan_;
  CodecSpec spec_;
  std::string place_;
  at::ScalarType dtype_;
  at::Device device_;
  std::optional<FSQuantizer> quantizer_;
  CosmosSlots encoder_slots_, decoder_slots_;
  std::optional<CosmosEncoder3d> encoder_;
  std::optional<CosmosCausalConv3d> quant_conv_, post_quant_conv_;
  std::optional<CosmosDecoder3d> decoder_;
};

/// The registry's builder.
std::unique_ptr<Component> build_cosmos_autoencoder(const Config& config, const Weights& weights);

}  // namespace orrery::models
