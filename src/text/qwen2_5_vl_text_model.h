#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "layers/block_stream.h"
#include "layers/linear.h"
#include "layers/rotary.h"
#include "orrery/component.h"
#include "orrery/config.h"

namespace orrery::text {

/// The text tower of Qwen2.5-VL (Cosmos-Reason1): a causal decoder with grouped keys, rotary positions and gated
/// feed-forward. For text alone its three position axes agree, so plain rotary positions from 0 are exact; its vision tower
/// is not loaded. Source: transformers 5.23.0 models/qwen2_5_vl/modeling_qwen2_5_vl.py.
class Qwen2_5_VLTextModel final : public Component {
 public:
  Qwen2_5_VLTextModel(const Config& config, const Weights& weights);

  std::string class_name() const override { return "Qwen2_5_VLForConditionalGeneration"; }

  /// input_ids int64 [B,L], attention_mask int64 [B,L] or undefined → the embedding, each layer's output but the last, and
  /// the last one's after the final norm: num_hidden_layers + 1 tensors float [B,L,D].
  std::vector<at::Tensor> forward(const at::Tensor& input_ids, const at::Tensor& attention_mask) const;

  /// "forward": input_ids, attention_mask → last_hidden_state, with all_layers also hidden_states.0, .1, …
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

 private:
  struct Layer {
    at::Tensor input_layernorm, post_attention_layernorm;
    layers::Linear q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj;
  };
  int64_t num_heads_, num_key_value_heads_, head_dim_;
  double eps_, rope_theta_;
  at::Tensor embed_tokens_;  // [V,D], as stored
  layers::BlockStream<Layer> layers_;
  at::Tensor norm_;
};

std::unique_ptr<Component> build_qwen2_5_vl_text_model(const Config& config, const Weights& weights);

}  // namespace orrery::text
