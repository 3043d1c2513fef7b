#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "orrery/autoencoder.h"
#include "orrery/weights.h"

// The layers of the Cosmos tokenizers, 0.1 and 1.0, image and video, streaming.
// Reference: nvidia-cosmos/cosmos-predict1@4ed35faa cosmos_predict1/tokenizer/modules/{layers2d,layers3d}.py.
//
// Activations are float [T,B,H,W,C]: time slices, frames and pixels are contiguous, so a (3,1,1) or (1,1,1) convolution is a
// plain matrix product and a (1,3,3) one is a channels-last convolution over all frames at once; nothing is padded in time.
namespace orrery::models {

/// Names of one dialect's tensors; the networks are the same.
struct CosmosTensorNames {
  std::string conv;                         ///< what follows the name of a causal convolution
  std::string spatial, temporal;            ///< the halves of a factorised convolution
  std::string norm;                         ///< what follows the name of a norm
  std::string q, k, v, proj_out, shortcut;  ///< in attention and residual blocks
  bool diffusers = false;                   ///< down_blocks.0.resnets.1 instead of down.0.block.1

  static const CosmosTensorNames& original_video();
  static const CosmosTensorNames& original_image();
  static const CosmosTensorNames& diffusers_video();
};

/// Numbers the layers that look back, so that each has its slot in a stream's cache.
class CosmosSlots {
 public:
  int64_t next() { return count_++; }
  int64_t count() const { return count_; }

 private:
  int64_t count_ = 0;
};

/// One chunk on its way through the layers.
struct CosmosPass {
  CodecCache& cache;
  bool first;  ///< nothing has gone before: a layer that looks back sees the first frame repeated
  bool last;   ///< nothing will follow: tails need not be kept
};

/// Which kind of network a layer belongs to.
enum class CosmosKind {
  kImage,       ///< 2D: frames know nothing of each other
  kBase,        ///< video, full 3D convolutions (`BASE` in the original)
  kFactorized,  ///< video, (1,3,3) then (3,1,1) convolutions (`FACTORIZED`): every released video tokenizer
};

struct CosmosKernel {
  int64_t time = 1, space = 1, time_stride = 1, space_stride = 1;
};

/// A convolution that sees no later frame; before the first frame it sees that frame repeated. Zero padding in space: one
/// pixel on each side, or only right and below where space_stride is 2 (the caller pads then).
class CosmosCausalConv3d {
 public:
  /// `in_map` [in,in'] and `out_map` [out',out] are folded into the weights: the layer then takes in' and gives out'
  /// channels.
  CosmosCausalConv3d(const Weights& weights, bool image, int64_t in, int64_t out, CosmosKernel kernel, CosmosSlots& slots,
                     const at::Tensor& in_map = {}, const at::Tensor& out_map = {});
  at::Tensor operator()(const at::Tensor& x, CosmosPass& pass) const;
  /// d + conv(d), where d is `x`, doubled each way to the nearest pixel. For kernels of space alone.
  at::Tensor over_doubled(const at::Tensor& x) const;

 private:
  at::Tensor over_time(const at::Tensor& x, CosmosPass& pass) const;
  at::Tensor by_taps(const at::Tensor& x, const CosmosPass& pass) const;
  at::Tensor frame_before(int64_t frame, const at::Tensor& x, const CosmosPass& pass) const;  // frame < 0
  at::Tensor over_space(const at::Tensor& x) const;
  at::Tensor over_both(const at::Tensor& x, CosmosPass& pass) const;

  CosmosKernel kernel_;
  int64_t slot_ = -1;
  at::Tensor weight_;  // [O,I], [O,I,k,k], [O,I,kt] or [O,I,kt,k,k]
  at::Tensor bias_;
};

/// The network's 3x3 convolution, by kind: 2D, full 3D, or a spatial and a temporal half.
class CosmosConvProjection3d {
 public:
  CosmosConvProjection3d(const Weights& weights, CosmosKind kind, const CosmosTensorNames& names, int64_t in, int64_t out,
                         CosmosSlots& slots, const at::Tensor& in_map = {}, const at::Tensor& out_map = {});
  at::Tensor operator()(at::Tensor x, CosmosPass& pass) const;

 private:
  std::vector<CosmosCausalConv3d> parts_;
};

/// GroupNorm of each frame alone; of the whole clip where a video network has several groups (which then is not causal).
class CosmosCausalGroupNorm {
 public:
  CosmosCausalGroupNorm(const Weights& weights, CosmosKind kind, int64_t channels, int64_t groups);
  at::Tensor operator()(const at::Tensor& x) const;
  /// silu of it: one pass less over memory, where `x` is float32 on the CPU and there is one group.
  at::Tensor silu(const at::Tensor& x) const;

 private:
  bool whole_clip_;
  int64_t groups_;
  at::Tensor weight_, bias_;
};

/// What every block of one network shares.
struct CosmosLayerSetting {
  CosmosKind kind;
  const CosmosTensorNames& names;
  int64_t groups;
  CosmosSlots& slots;
};

class CosmosResnetBlock3d {
 public:
  CosmosResnetBlock3d(const Weights& weights, const CosmosLayerSetting& setting, int64_t in, int64_t out);
  at::Tensor operator()(const at::Tensor& x, CosmosPass& pass) const;

 private:
  CosmosCausalGroupNorm norm1_;
  CosmosConvProjection3d conv1_;
  CosmosCausalGroupNorm norm2_;
  CosmosConvProjection3d conv2_;
  std::optional<CosmosCausalConv3d> nin_shortcut_;
};

/// Single-head attention with a residual: over the pixels of each frame, or over a pixel's past.
class CosmosCausalAttention {
 public:
  enum class Axis { kSpace, kTime };
  CosmosCausalAttention(const Weights& weights, const CosmosLayerSetting& setting, int64_t channels, Axis axis);
  at::Tensor operator()(const at::Tensor& x, CosmosPass& pass) const;

 private:
  Axis axis_;
  int64_t slot_ = -1;  // keys and values of all past frames, [T,BHW,2C]
  CosmosCausalGroupNorm norm_;
  at::Tensor qkv_weight_, qkv_bias_, out_weight_, out_bias_;
};

}  // namespace orrery::models
