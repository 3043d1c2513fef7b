#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "models/cosmos/tokenizer_config.h"
#include "models/cosmos/tokenizer_layers.h"

namespace orrery::models {

/// Cuts pixels [B,C,T,H,W] into patches [t,B,h,w,C·p³] (a plain rearrangement; the wavelets are folded into the next layer).
/// A network that patches time sees the first frame of a clip p times.
at::Tensor cosmos_patches(const at::Tensor& pixels, const CosmosNetworkPlan& plan, bool first);
/// The way back; drops what stands for the repeated first frame.
at::Tensor cosmos_unpatch(const at::Tensor& patches, const CosmosNetworkPlan& plan, bool first);
/// The Haar transform of one patch, [wavelet channels, patch channels] in double, or its inverse, [patch, wavelet] channels;
/// undefined where the plan only rearranges.
at::Tensor cosmos_haar(const CosmosNetworkPlan& plan, bool inverse);

/// The residual, attention, residual run between the levels and the latents.
class CosmosMidBlock3d {
 public:
  CosmosMidBlock3d(const Weights& weights, const CosmosLayerSetting& setting, int64_t channels);
  at::Tensor operator()(at::Tensor x, CosmosPass& pass) const;

 private:
  CosmosResnetBlock3d block_1_;
  std::vector<CosmosCausalAttention> attn_1_;
  CosmosResnetBlock3d block_2_;
};

/// Halves or doubles resolution at the end of a level: by learned convolutions beside pooling or repetition (factorised
/// networks), by one strided or following convolution (images, full 3D), or, at the last level of full 3D ones, without
/// weights.
class CosmosResample3d {
 public:
  enum class Direction { kDown, kUp };
  CosmosResample3d(const Weights& weights, const CosmosLayerSetting& setting, int64_t channels, const CosmosLevel& level,
                   Direction direction);
  at::Tensor operator()(at::Tensor x, CosmosPass& pass) const;

 private:
  at::Tensor down(at::Tensor x, CosmosPass& pass) const;
  at::Tensor up(at::Tensor x, CosmosPass& pass) const;

  Direction direction_;
  bool space_, time_;
  std::optional<CosmosCausalConv3d> conv_;                            ///< images and full 3D
  std::optional<CosmosCausalConv3d> conv_space_, conv_time_, conv3_;  ///< factorised
};

/// Residual blocks at one resolution, each with attention where the plan says so, then the change of resolution.
class CosmosLevelBlock3d {
 public:
  CosmosLevelBlock3d(const Weights& weights, const CosmosLayerSetting& setting, int64_t in, int64_t blocks,
                     const CosmosLevel& level, CosmosResample3d::Direction direction);
  at::Tensor operator()(at::Tensor x, CosmosPass& pass) const;

 private:
  std::vector<CosmosResnetBlock3d> block_;
  std::vector<std::vector<CosmosCausalAttention>> attn_;
  std::optional<CosmosResample3d> resample_;
};

class CosmosEncoder3d {
 public:
  CosmosEncoder3d(const Weights& weights, const CosmosNetworkPlan& plan, const CosmosTensorNames& names, CosmosSlots& slots);
  /// Patches [t,B,h,w,C·p³] → [t',B,h',w',z].
  at::Tensor operator()(at::Tensor x, CosmosPass& pass) const;

 private:
  CosmosConvProjection3d conv_in_;
  std::vector<CosmosLevelBlock3d> down_;
  CosmosMidBlock3d mid_;
  CosmosCausalGroupNorm norm_out_;
  CosmosConvProjection3d conv_out_;
};

class CosmosDecoder3d {
 public:
  CosmosDecoder3d(const Weights& weights, const CosmosNetworkPlan& plan, const CosmosTensorNames& names, CosmosSlots& slots);
  /// [t',B,h',w',z] → patches [t,B,h,w,C·p³].
  at::Tensor operator()(at::Tensor x, CosmosPass& pass) const;

 private:
  CosmosConvProjection3d conv_in_;
  CosmosMidBlock3d mid_;
  std::vector<CosmosLevelBlock3d> up_;
  CosmosCausalGroupNorm norm_out_;
  CosmosConvProjection3d conv_out_;
};

}  // namespace orrery::models
