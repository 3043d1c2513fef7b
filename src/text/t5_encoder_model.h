#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layers/block_stream.h"
#include "layers/linear.h"
#include "orrery/component.h"
#include "orrery/config.h"

namespace orrery::text {

/// The encoder half of T5 and UMT5 (T5EncoderModel, UMT5EncoderModel): pre-norm blocks without biases, attention that is not
/// scaled and takes a learned bias by bucketed distance — one table for all layers in T5, one a layer in UMT5.
/// Source: transformers 5.23.0 models/t5/modeling_t5.py, models/umt5/modeling_umt5.py.
class T5EncoderModel final : public Component {
 public:
  T5EncoderModel(const Config& config, const Weights& weights);

  std::string class_name() const override { return class_name_; }

  /// input_ids int64 [B,L], attention_mask int64 [B,L] or undefined → float [B,L,d_model]
  at::Tensor forward(const at::Tensor& input_ids, const at::Tensor& attention_mask) const;

  /// "forward": input_ids, attention_mask → last_hidden_state
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

 private:
  struct Block {
    at::Tensor attention_norm, feed_forward_norm;  // [D]
    layers::Linear q, k, v, o;
    at::Tensor relative_attention_bias;  // [buckets, heads]; undefined: the first block's
    layers::Linear wi, wi_gate, wo;      // wi_gate only in the gated form
  };
  // Padding that is worth computing. Masked tokens are looked at by nobody, so keys end with the last token that is seen. Padding
  // itself looks at those keys, from farther and farther away; from max_distance_ on every distance is alike, and so is every row.
  struct Reach {
    int64_t tokens;  // rows to compute; the last stands for all behind it
    int64_t keys;    // rows that are looked at
  };
  Reach reach_of(const at::Tensor& input_ids, const at::Tensor& attention_mask) const;
  at::Tensor position_bias(const at::Tensor& table, int64_t queries, int64_t keys) const;
  at::Tensor feed_forward(const Block& block, const at::Tensor& hidden_states) const;

  std::string class_name_;
  int64_t num_heads_, num_buckets_, max_distance_;
  double eps_;
  std::string activation_;
  at::Tensor shared_;  // [V,D], as stored
  layers::BlockStream<Block> blocks_;
  at::Tensor final_layer_norm_;
};

/// The encoder from transformers' names, or from Wan's own where the config's `_dialect` says "original".
std::unique_ptr<Component> build_t5_encoder_model(const Config& config, const Weights& weights);

/// Recognises UMT5 under the names of Wan's original repository and reads its sizes off the tensors.
std::optional<Config> describe_original_umt5(const Weights& weights);

/// transformers' name → the original's of every tensor of an encoder of so many layers.
std::map<std::string, std::string> original_umt5_names(int64_t num_layers);

}  // namespace orrery::text
