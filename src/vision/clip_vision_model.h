#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layers/linear.h"
#include "orrery/component.h"
#include "orrery/config.h"
#include "orrery/weights.h"

namespace orrery::vision {

/// The picture half of CLIP (CLIPVisionModel, CLIPVisionModelWithProjection): a transformer over patches and one class
/// token. Source: transformers 5.23.0 models/clip/modeling_clip.py. The original layout is that of Wan-Video/Wan2.1
/// wan/modules/clip.py.
class ClipVisionModel final : public Component {
 public:
  ClipVisionModel(const Config& config, const Weights& weights);

  std::string class_name() const override { return class_name_; }

  /// "forward": pixel_values float [B,3,image_size,image_size], normalised → last_hidden_state [B,1+N,D], pooler_output
  /// [B,D], image_embeds [B,P] where the checkpoint projects; with all_layers also hidden_states.0 (the embeddings) …
  /// hidden_states.L.
  TensorMap call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const override;

 private:
  struct Norm {
    at::Tensor weight, bias;
    at::Tensor operator()(const at::Tensor& x, double eps) const;
  };
  struct Layer {
    Norm layer_norm1, layer_norm2;
    std::vector<layers::Linear> qkv;  // three, or one that holds all
    layers::Linear out_proj, fc1, fc2;
  };
  at::Tensor embed(const at::Tensor& pixel_values) const;
  at::Tensor run(const Layer& layer, at::Tensor hidden_states) const;

  std::string class_name_, activation_;
  int64_t image_size_, patch_size_, num_heads_;
  double eps_;
  at::Tensor class_embedding_;     // [D]
  at::Tensor patch_embedding_;     // [D,3,p,p]
  at::Tensor position_embedding_;  // [1+N,D]
  Norm pre_layrnorm_, post_layernorm_;
  std::vector<Layer> layers_;
  at::Tensor projection_;  // [P,D], or undefined
};

std::unique_ptr<Component> build_clip_vision_model(const Config& config, const Weights& weights);

/// Recognises the picture half in an original CLIP checkpoint ("visual.…") by its tensors.
std::optional<Config> describe_clip_vision_model(const Weights& weights);

}  // namespace orrery::vision
