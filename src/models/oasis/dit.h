#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "layers/linear.h"
#include "models/oasis/rotary_attention.h"
#include "orrery/component.h"
#include "orrery/config.h"

namespace orrery::models {

/// The dynamics of Oasis: a diffusion-forcing transformer with a noise time and an action for each frame. Attention is
/// inside a frame, then causal over time at the same token. Source: etched-ai/open-oasis dit.py (DiT) at f59deef2.
class DiT final : public Component {
 public:
  DiT(const Config& config, const Weights& weights);
  std::string class_name() const override { return "DiT"; }

  /// By block, rotated keys and values of earlier frames: [2,B·S,T,heads,head_dim].
  using TimeKeys = std::vector<at::Tensor>;

  /// x float [B,T,C,h,w] at `times` [B,T] under `actions` [B,T,A] (undefined: none) → velocity, like x. The frames stand
  /// behind those of `past` (empty: none); `seen`, where given, receives the keys and values of both.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& times, const at::Tensor& actions, const TimeKeys& past,
                     TimeKeys* seen) const;

  int64_t input_h() const { return input_h_; }
  int64_t input_w() const { return input_w_; }
  int64_t max_frames() const { return max_frames_; }
  int64_t actions() const { return external_cond_dim_; }
  size_t depth() const { return blocks.size(); }
  /// Of one block's TimeKeys after so many frames at input_h() x input_w().
  std::vector<int64_t> keys_shape(int64_t frames) const {
    return {2, (input_h_ / patch_size_) * (input_w_ / patch_size_), frames, heads_, width_ / heads_};
  }

  /// "forward": x, t, external_cond (may be absent) → sample
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

 private:
  struct Half {  // attention and MLP, over space or over time
    RotaryAttention attn;
    layers::Linear fc1, fc2, adaLN_modulation;
  };
  struct Block {
    Half space, time;
  };
  Half read_half(const Weights& block, const std::string& letter) const;

  int64_t input_h_, input_w_, patch_size_, in_channels_, width_, heads_, external_cond_dim_, max_frames_;
  at::Tensor x_embedder_weight, x_embedder_bias;  // [D,C,P,P], [D]
  layers::Linear t_embedder_in, t_embedder_out, external_cond;
  at::Tensor spatial_freqs, temporal_freqs;
  std::vector<Block> blocks;
  layers::Linear final_linear, final_modulation;
};

std::unique_ptr<Component> build_oasis_dit(const Config& config, const Weights& weights);

}  // namespace orrery::models
