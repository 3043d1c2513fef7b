#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/wan/action_module.h"
#include "models/wan/wan_transformer_3d_model.h"

namespace orrery::models {

/// What a stream remembers of the latent frames that it has made.
struct CausalWanMemory {
  std::vector<at::Tensor> keys;                 ///< by block, rotated keys and values [2,B,N,heads,head_dim]
  std::vector<ActionModule::Keys> action_keys;  ///< by action module
  int64_t frames = 0;                           ///< latent frames so far
};

/// Wan made causal: latent frames come in blocks; a block sees itself and what came before through keys and values that are
/// kept, up to a window of `local_attn_size` frames of which the first `sink_size` stay. Noise times are by frame. With an
/// `action_config` it takes keys and mouse, and a picture in place of text. Source: guandeh17/Self-Forcing and
/// SkyworkAI/Matrix-Game (Matrix-Game-2), wan/modules/causal_model.py (CausalWanModel).
class CausalWanModel final : public Component {
 public:
  /// `config` has the names of the reference's constructor; the names of the tensors are the original's.
  CausalWanModel(const Config& config, const Weights& weights);
  std::string class_name() const override { return "CausalWanModel"; }

  const WanTransformerConfig& sizes() const { return network_.config(); }
  const ActionModuleConfig& actions() const { return action_config_; }
  size_t modules() const { return modules_.size(); }
  /// Latent frames that a block can see, itself included.
  int64_t window() const { return window_; }
  int64_t text_len() const { return text_len_; }  ///< tokens of a prompt, filling included
  int64_t frames_per_block() const { return frames_per_block_; }
  /// The steps it was distilled to, as indices 1000 … 0 of the unshifted schedule.
  const std::vector<int64_t>& denoising_steps() const { return denoising_steps_; }
  double timestep_shift() const { return timestep_shift_; }

  /// Keys and values of the text [B,L,text_dim] (filled up with zeros to the reference's length) or of the picture's tokens
  /// [B,257,1280], whichever the network takes.
  std::unique_ptr<WanContext> prepare(const at::Tensor& text, const at::Tensor& image) const;
  /// One look at a block: x [B,C,n,h,w] with all input channels at `times` [B,n] → velocity. `memory` is read, and extended
  /// by these frames where `keep`.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& times, const WanContext& context, const ActionWindows& actions,
                     CausalWanMemory& memory, bool keep) const;

  /// "forward": x, t, context (or visual_context, cond_concat, mouse_cond, keyboard_cond) → sample, block by block.
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

 private:
  ActionModuleConfig action_config_;
  int64_t text_len_, window_, sink_, frames_per_block_;
  std::vector<int64_t> denoising_steps_;
  double timestep_shift_;
  WanTransformer3DModel network_;
  std::vector<std::optional<size_t>> module_of_;  // by block
  std::vector<ActionModule> modules_;
};

/// The windows of latent frames first … first + count − 1 out of the actions of all pixel frames so far [B,T,A]; what lies
/// before the first repeats it. [B,count,window,A]
at::Tensor action_windows(const at::Tensor& actions, const ActionModuleConfig& config, int64_t first, int64_t count);

std::unique_ptr<Component> build_causal_wan_model(const Config& config, const Weights& weights);

/// Recognises the training checkpoint of a causal text-to-video network (sections `generator`, `generator_ema`) and networks
/// with action modules.
std::optional<Config> describe_causal_wan(const Weights& weights);

}  // namespace orrery::models
