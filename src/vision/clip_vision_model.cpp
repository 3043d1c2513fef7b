#include "vision/clip_vision_model.h"

#include <ATen/ATen.h>

#include <cmath>
#include <sstream>

#include "layers/attention.h"
#include "layers/norm.h"
#include "orrery/error.h"

namespace orrery::vision {
namespace {

constexpr int64_t kChannels = 3;

bool is_original(const Config& config) {
  return config.get<std::string>("_dialect", "diffusers") == "original";
}

// transformers writes "vision_model." before the names of both classes, or of the projecting one only.
Weights tower_of(const Config& config, const Weights& weights) {
  if (is_original(config)) return weights.sub("visual");
  return weights.has_prefix("vision_model") ? weights.sub("vision_model") : weights;
}

}  // namespace

at::Tensor ClipVisionModel::Norm::operator()(const at::Tensor& x, double eps) const {
  return layers::layer_norm(x, eps, weight, bias);
}

ClipVisionModel::ClipVisionModel(const Config& config, const Weights& weights)
    : class_name_(weights.has("visual_projection.weight") ? "CLIPVisionModelWithProjection" : "CLIPVisionModel"),
      activation_(config.get<std::string>("hidden_act", "quick_gelu")),
      image_size_(config.get<int64_t>("image_size", 224)),
      patch_size_(config.get<int64_t>("patch_size", 32)),
      num_heads_(config.get<int64_t>("num_attention_heads", 12)),
      eps_(config.get<double>("layer_norm_eps", 1e-5)) {
  if (activation_ != "gelu" && activation_ != "quick_gelu")
    throw Error(ErrorKind::kUnsupported, {.place = config.place() + ": hidden_act",
                                          .what = "is not known",
                                          .expected = "gelu or quick_gelu",
                                          .got = activation_});
  const auto width = config.get<int64_t>("hidden_size", 768), inner = config.get<int64_t>("intermediate_size", 3072);
  const auto count = config.get<int64_t>("num_hidden_layers", 12);
  if (patch_size_ < 1 || image_size_ < patch_size_ || num_heads_ < 1 || width % num_heads_ != 0)
    throw Error(ErrorKind::kConfig, {.place = config.place(), .what = "sizes do not fit each other"});
  const int64_t positions = 1 + (image_size_ / patch_size_) * (image_size_ / patch_size_);
  const bool original = is_original(config);
  const Weights tower = tower_of(config, weights);
  const auto norm = [&](const Weights& at) { return Norm{at.get("weight", {width}), at.get("bias", {width})}; };
  const auto linear = [](const Weights& at, int64_t in, int64_t out) { return layers::Linear(at, in, out, /*bias=*/true); };

  if (original) {
    class_embedding_ = tower.get("cls_embedding", {1, 1, width}).view({width});
    position_embedding_ = tower.get("pos_embedding", {1, positions, width}).view({positions, width});
  } else {
    class_embedding_ = tower.get("embeddings.class_embedding", {width});
    position_embedding_ = tower.get("embeddings.position_embedding.weight", {positions, width});
    tower.ignore("embeddings.position_ids");
  }
  patch_embedding_ = tower.get(original ? "patch_embedding.weight" : "embeddings.patch_embedding.weight",
                               {width, kChannels, patch_size_, patch_size_});
  pre_layrnorm_ = norm(tower.sub(original ? "pre_norm" : "pre_layrnorm"));
  post_layernorm_ = norm(tower.sub(original ? "post_norm" : "post_layernorm"));
  for (int64_t i = 0; i < count; ++i) {
    const Weights at = tower.sub(original ? "transformer" : "encoder.layers", i);
    Layer layer;
    layer.layer_norm1 = norm(at.sub(original ? "norm1" : "layer_norm1"));
    layer.layer_norm2 = norm(at.sub(original ? "norm2" : "layer_norm2"));
    if (original)
      layer.qkv.push_back(linear(at.sub("attn.to_qkv"), width, 3 * width));
    else
      for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"})
        layer.qkv.push_back(linear(at.sub(name), width, width));
    layer.out_proj = linear(at.sub(original ? "attn.proj" : "self_attn.out_proj"), width, width);
    layer.fc1 = linear(at.sub(original ? "mlp.0" : "mlp.fc1"), width, inner);
    layer.fc2 = linear(at.sub(original ? "mlp.2" : "mlp.fc2"), inner, width);
    layers_.push_back(std::move(layer));
  }
  if (original)
    for (const char* name : {"visual.head", "textual", "log_scale"}) weights.ignore(name);
  else
    projection_ = weights.find("visual_projection.weight", {config.get<int64_t>("projection_dim", 512), width});
}

at::Tensor ClipVisionModel::embed(const at::Tensor& pixel_values) const {
  at::Tensor patches = at::conv2d(pixel_values, patch_embedding_, {}, patch_size_);  // [B,D,h,w]
  patches = patches.flatten(2).transpose(1, 2);                                      // [B,N,D]
  const at::Tensor first = class_embedding_.expand({patches.size(0), 1, -1});
  return pre_layrnorm_(at::cat({first, patches}, 1) + position_embedding_, eps_);
}

at::Tensor ClipVisionModel::run(const Layer& layer, at::Tensor hidden_states) const {
  using layers::split_heads;
  const at::Tensor norm = layer.layer_norm1(hidden_states, eps_);
  std::vector<at::Tensor> qkv;
  if (layer.qkv.size() == 1)
    qkv = layer.qkv[0](norm).chunk(3, -1);
  else
    for (const auto& projection : layer.qkv) qkv.push_back(projection(norm));
  hidden_states = hidden_states + layer.out_proj(layers::attention(split_heads(qkv[0].contiguous(), num_heads_),
                                                                   split_heads(qkv[1].contiguous(), num_heads_),
                                                                   split_heads(qkv[2].contiguous(), num_heads_)));
  const at::Tensor inner = layer.fc1(layer.layer_norm2(hidden_states, eps_));
  return hidden_states + layer.fc2(activation_ == "gelu" ? at::gelu(inner) : inner * at::sigmoid(inner * 1.702));
}

TensorMap ClipVisionModel::call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const {
  if (function != "forward")
    throw Error(ErrorKind::kArgument,
                {.place = class_name_ + "." + function, .what = "is not known", .expected = "forward"});
  const at::Tensor pixels = require_input(inputs, "pixel_values", "image_encoder.forward").to(at::kFloat);
  if (pixels.dim() != 4 || pixels.size(1) != kChannels || pixels.size(2) != image_size_ || pixels.size(3) != image_size_) {
    std::ostringstream expected, got;
    expected << "[B, 3, " << image_size_ << ", " << image_size_ << "]";
    got << pixels.sizes();
    throw Error(ErrorKind::kArgument,
                {.place = "pixel_values", .what = "has the wrong shape", .expected = expected.str(), .got = got.str()});
  }
  TensorMap outputs;
  at::Tensor hidden_states = embed(pixels);
  for (size_t i = 0; i <= layers_.size(); ++i) {
    if (options.all_layers) outputs["hidden_states." + std::to_string(i)] = hidden_states;
    if (i < layers_.size()) hidden_states = run(layers_[i], hidden_states);
  }
  outputs["last_hidden_state"] = hidden_states;
  outputs["pooler_output"] = post_layernorm_(hidden_states.select(1, 0), eps_);
  if (projection_.defined()) outputs["image_embeds"] = at::linear(outputs["pooler_output"], projection_);
  return outputs;
}

std::unique_ptr<Component> build_clip_vision_model(const Config& config, const Weights& weights) {
  return std::make_unique<ClipVisionModel>(config, weights);
}

std::optional<Config> describe_clip_vision_model(const Weights& weights) {
  constexpr int64_t kHeads = 16;  // of every open CLIP larger than ViT-B
  const auto patch = weights.shape("visual.patch_embedding.weight"), positions = weights.shape("visual.pos_embedding"),
             inner = weights.shape("visual.transformer.0.mlp.0.weight");
  if (!patch || patch->size() != 4 || !positions || positions->size() != 3 || !inner || inner->size() != 2)
    return std::nullopt;
  const int64_t width = patch->at(0), side = std::llround(std::sqrt(static_cast<double>(positions->at(1) - 1)));
  if (width % kHeads != 0 || side < 1) return std::nullopt;
  int64_t layers = 0;
  while (weights.has("visual.transformer." + std::to_string(layers) + ".attn.to_qkv.weight")) ++layers;
  return Config::parse("{}", weights.place())
      .with("_class_name", std::string("CLIPVisionModel"))
      .with("_dialect", std::string("original"))
      .with("hidden_size", width)
      .with("intermediate_size", inner->at(0))
      .with("num_hidden_layers", layers)
      .with("num_attention_heads", kHeads)
      .with("patch_size", patch->at(2))
      .with("image_size", side * patch->at(2))
      .with("hidden_act", std::string("gelu"));
}

}  // namespace orrery::vision
