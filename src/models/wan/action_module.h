#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "layers/linear.h"
#include "layers/rotary.h"
#include "orrery/config.h"

namespace orrery::models {

/// Names and defaults of the reference's `action_config`.
struct ActionModuleConfig {
  ActionModuleConfig() = default;
  explicit ActionModuleConfig(const Config& config);

  std::vector<int64_t> blocks;  ///< that have a module; empty: the network takes no actions
  bool enable_mouse = true, enable_keyboard = true;
  int64_t mouse_dim_in = 2, keyboard_dim_in = 6, hidden_size = 128, img_hidden_size = 1536;
  int64_t keyboard_hidden_dim = 1024, mouse_hidden_dim = 1024, heads_num = 16;
  int64_t vae_time_compression_ratio = 4, windows_size = 3;
  std::vector<int64_t> rope_dim_list = {8, 28, 28};
  double rope_theta = 256;

  /// Pixel frames whose actions a latent frame sees.
  int64_t window() const { return vae_time_compression_ratio * windows_size; }
};

/// The actions of the latent frames of one call, each with the frames before it.
struct ActionWindows {
  at::Tensor mouse;     ///< float [B,t,window,2], or undefined
  at::Tensor keyboard;  ///< float [B,t,window,K], or undefined
};

/// What keys and a mouse do to the tokens of a block: the mouse by attention over time at each place, the keys by
/// attention of every token to the keys of its past.
/// Source: SkyworkAI/Matrix-Game Matrix-Game-2 wan/modules/action_module.py (ActionModule).
class ActionModule {
 public:
  ActionModule(const Weights& weights, const ActionModuleConfig& config);

  /// Keys and values of latent frames, [2,…,T,heads,head_dim]: of the mouse for each place (B·S), of the keyboard for all
  /// (B).
  struct Keys {
    at::Tensor mouse, keyboard;
  };
  /// hidden_states [B,t·S,D], the first frame of which has number `first_frame` → the same with the actions added.
  /// `past` (undefined: none) is seen too; `own` receives this call's keys.
  at::Tensor forward(const at::Tensor& hidden_states, const ActionWindows& actions, int64_t first_frame, const Keys& past,
                     Keys& own) const;

 private:
  layers::Rotary rotary(int64_t first_frame, int64_t frames, int64_t head_dim) const;
  at::Tensor mouse(const at::Tensor& hidden_states, const at::Tensor& actions, int64_t first_frame, const at::Tensor& past,
                   at::Tensor& own) const;
  at::Tensor keyboard(const at::Tensor& hidden_states, const at::Tensor& actions, int64_t first_frame,
                      const at::Tensor& past, at::Tensor& own) const;

  ActionModuleConfig config_;
  layers::Linear mouse_mlp_in, mouse_mlp_out, t_qkv, proj_mouse;
  at::Tensor mouse_norm_weight, mouse_norm_bias;
  layers::Linear keyboard_embed_in, keyboard_embed_out, mouse_attn_q, keyboard_attn_kv, proj_keyboard;
};

}  // namespace orrery::models
