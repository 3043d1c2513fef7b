#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/cosmos/tokenizer_layers.h"
#include "orrery/autoencoder.h"
#include "orrery/config.h"
#include "orrery/weights.h"

namespace orrery::models {

/// One resolution of an encoder or decoder, in the order of execution.
struct CosmosLevel {
  int64_t width = 0;       ///< channels of its residual blocks' outputs
  bool attention = false;  ///< after each residual block
  bool space = false;      ///< it ends by halving (doubling) height and width
  bool time = false;       ///< it ends by halving (doubling) the frames
};

/// An encoder or a decoder, whatever its configuration was called.
struct CosmosNetworkPlan {
  CosmosKind kind = CosmosKind::kFactorized;
  int64_t image_channels = 3;
  int64_t patch = 1;
  bool haar = false;       ///< patches are Haar wavelets; else rearranged pixels
  int64_t stem = 0;        ///< width before the first level
  int64_t z_channels = 0;  ///< channels at the latent end
  int64_t groups = 1;      ///< of the norms
  int64_t blocks = 0;      ///< residual blocks a level
  std::vector<CosmosLevel> levels;

  int64_t patch_frames() const { return kind == CosmosKind::kFactorized ? patch : 1; }
  int64_t patch_channels() const { return image_channels * patch * patch * patch_frames(); }
  bool causal() const { return kind != CosmosKind::kImage && groups == 1; }
  int64_t space_stride() const;
  int64_t time_stride() const;
};

struct CosmosTokenizerPlan {
  std::string class_name;
  CosmosNetworkPlan encoder, decoder;
  int64_t moments = 0;          ///< channels that quant_conv gives
  int64_t latent_channels = 0;  ///< channels that post_quant_conv takes
  bool variational = false;     ///< the moments are a mean and a log-variance
  std::vector<int64_t> fsq;     ///< levels of the quantiser; empty: continuous
  int64_t window_frames = 0;
  LatentNormalization normalization;
  const CosmosTensorNames* names = nullptr;

  bool image() const { return encoder.kind == CosmosKind::kImage; }
  bool discrete() const { return !fsq.empty(); }
};

/// Reads the arguments of one of the five reference classes (AutoencoderKLCosmos and the original's four); throws
/// Error(kConfig) on values that the reference would refuse, Error(kUnsupported) on quantisers of no release.
CosmosTokenizerPlan cosmos_tokenizer_plan(const Config& config, const Weights& weights);

/// Recognises an original checkpoint (whole, encoder or decoder alone) without a config.
std::optional<Config> describe_cosmos_tokenizer(const Weights& weights);

/// diffusers' defaults: mean and standard deviation of Cosmos-1.0-Tokenizer-CV8x8x8's latents, [16 channels x 16 frames].
const std::vector<double>& cosmos_cv8x8x8_latents_mean();
const std::vector<double>& cosmos_cv8x8x8_latents_std();

}  // namespace orrery::models
