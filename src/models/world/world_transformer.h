#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layers/linear.h"
#include "layers/rotary.h"
#include "models/world/fast_transformer.h"
#include "orrery/component.h"
#include "orrery/config.h"

namespace orrery::models {

/// The dynamics of the bundled worlds: a causal diffusion-forcing transformer with its own noise level for each frame.
/// Convolutions before and after the tokens; attention is inside a frame, then over time at the same token; keys and values
/// of past frames can be kept. Source: examples/worlds/train/ARCHITECTURE.md, section 4.
class OrreryWorldTransformer final : public Component {
 public:
  OrreryWorldTransformer(const Config& config, const Weights& weights);
  std::string class_name() const override { return "OrreryWorldTransformer"; }

  /// Of one call, for each block: rotated keys and values over time, [2,B·S,heads,T,head_dim].
  using TimeKeys = std::vector<at::Tensor>;

  /// What a pass looks like beside its latents.
  struct Pass {
    at::Tensor levels, features;     ///< noise levels [B,T] in 0…1 and action features [B,T,F]
    layers::Rotary angles = {};      ///< of the frames, see angles(); undefined: of frames 0…T−1
    const TimeKeys* past = nullptr;  ///< of earlier frames, all visible; without it each frame sees window − 1 before it
  };
  /// hidden_states [B,T,C,h,w], previous [B,T,2C,h,w] (of each frame the two before it, the nearer one first), float → the
  /// clean latents [B,T,C,h,w]; `keys`, where given, receives this call's own.
  at::Tensor forward(const at::Tensor& hidden_states, const at::Tensor& previous, const Pass& pass, TimeKeys* keys) const;
  /// Noise levels [B,T] in 0…1 and action features [B,T,F] → [B,T,D]
  at::Tensor condition(const at::Tensor& levels, const at::Tensor& features) const;
  /// What turns queries and keys of frames first…first+count−1 over time; on the processor.
  layers::Rotary angles(int64_t first, int64_t count) const;
  /// The part of condition() that noise levels [N] bring: [N,D]
  at::Tensor noise_embedding(const at::Tensor& levels) const;
  /// The same network for one frame at a time, on the processor alone.
  const FastTransformer& fast() const { return *fast_; }

  /// What is kept of one frame: [layers,2,S,heads,1,head_dim]
  std::vector<int64_t> page_sizes() const {
    return {static_cast<int64_t>(blocks.size()), 2, position.size(0), heads_, 1, width_ / heads_};
  }
  int64_t window() const { return window_; }
  int64_t action_features() const { return action_features_; }

  /// "forward": hidden_states, previous, timestep, action_features → sample
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

 private:
  struct Block {
    layers::Linear modulation, space_qkv, space_out, time_qkv, time_out, mlp_in, mlp_out;
  };
  struct Conv {
    at::Tensor weight, bias;
    at::Tensor operator()(const at::Tensor& x) const;  // 3x3, zeros around: [N,in,h,w] → [N,out,h,w]
  };
  at::Tensor moved(const at::Tensor& x, const at::Tensor& flow) const;
  at::Tensor to_tokens(const at::Tensor& latents) const;
  at::Tensor from_tokens(const at::Tensor& tokens) const;

  int64_t patch_size_, latent_size_, in_channels_, conv_width_, planes_, flows_, width_, heads_, noise_features_,
      action_features_, window_;
  double rope_base_, eps_;
  Conv conv_in, conv_stem, conv_out;
  std::vector<Conv> convs_head;
  std::optional<Conv> conv_flow, conv_moved;
  layers::Linear plane_in, patch_in, patch_out, noise_in, noise_out, action_in, action_out, final_modulation;
  at::Tensor position;  // [S,D]
  std::vector<Block> blocks;
  std::unique_ptr<const FastTransformer> fast_;
};

std::unique_ptr<Component> build_orrery_world_transformer(const Config& config, const Weights& weights);

}  // namespace orrery::models
