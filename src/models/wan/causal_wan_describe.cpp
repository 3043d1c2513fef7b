#include <set>
#include <string>

#include "models/wan/causal_wan_model.h"

// What the tensors of a causal checkpoint tell, by the names of the reference's constructor.
namespace orrery::models {
namespace {

constexpr int64_t kHeadDim = 128;       // of the network's attention, in every release
constexpr int64_t kActionHeadDim = 64;  // of an action module's

int64_t side(const Weights& weights, const std::string& name, size_t axis) {
  const auto shape = weights.shape(name);
  return shape && axis < shape->size() ? (*shape)[axis] : 0;
}

// The actions that the modules of this network take; nothing where it has none.
std::optional<Config> describe_actions(const Weights& weights, int64_t layers) {
  std::vector<int64_t> blocks;
  for (int64_t i = 0; i < layers; ++i)
    if (weights.has_prefix("blocks." + std::to_string(i) + ".action_model")) blocks.push_back(i);
  if (blocks.empty()) return {};
  const Weights module = weights.sub("blocks", blocks.front()).sub("action_model");
  const int64_t mouse = side(module, "mouse_mlp.2.weight", 0), keyboard = side(module, "mouse_attn_q.weight", 0);
  const int64_t hidden_size = side(module, "keyboard_embed.2.weight", 0), width = side(weights, "patch_embedding.weight", 0);
  return Config()
      .with("blocks", blocks)
      .with("enable_mouse", mouse > 0)
      .with("enable_keyboard", keyboard > 0)
      .with("mouse_hidden_dim", mouse)
      .with("keyboard_hidden_dim", keyboard)
      .with("keyboard_dim_in", side(module, "keyboard_embed.0.weight", 1))
      .with("hidden_size", hidden_size)
      .with("img_hidden_size", width)
      .with("heads_num", (mouse > 0 ? mouse : keyboard) / kActionHeadDim);
}

}  // namespace

std::optional<Config> describe_causal_wan(const Weights& weights) {
  // Training keeps the network and its running average side by side; the average is what is run.
  std::string section;
  for (const char* name : {"generator_ema.model", "generator_ema", "generator.model", "generator"})
    if (section.empty() && weights.has(std::string(name) + ".patch_embedding.weight")) section = name;
  const Weights network = section.empty() ? weights : weights.sub(section);
  const auto patch = network.shape("patch_embedding.weight");
  if (!patch || patch->size() != 5 || !network.has("blocks.0.self_attn.q.weight")) return {};
  int64_t layers = 0;
  while (network.has("blocks." + std::to_string(layers) + ".self_attn.q.weight")) ++layers;
  const auto actions = describe_actions(network, layers);
  if (section.empty() && !actions) return {};

  const int64_t width = (*patch)[0], volume = (*patch)[2] * (*patch)[3] * (*patch)[4];
  if (width % kHeadDim != 0 || volume < 1) return {};
  Config config = Config()
                      .with("_class_name", std::string("CausalWanModel"))
                      .with("_section", section)
                      .with("model_type", std::string(network.has("text_embedding.0.weight") ? "t2v" : "i2v"))
                      .with("patch_size", std::vector<int64_t>(patch->begin() + 2, patch->end()))
                      .with("dim", width)
                      .with("num_heads", width / kHeadDim)
                      .with("num_layers", layers)
                      .with("in_dim", (*patch)[1])
                      .with("out_dim", side(network, "head.head.weight", 0) / volume)
                      .with("text_dim", side(network, "text_embedding.0.weight", 1))
                      .with("image_dim", side(network, "img_emb.proj.0.weight", 0))
                      .with("freq_dim", side(network, "time_embedding.0.weight", 1))
                      .with("ffn_dim", side(network, "blocks.0.ffn.0.weight", 0))
                      .with("cross_attn_norm", network.has("blocks.0.norm3.weight"));
  if (!actions) return config;
  // The game with two keys has the shorter window of the releases.
  constexpr int64_t kDrivingKeys = 2;
  return config.with("local_attn_size", int64_t{actions->get<int64_t>("keyboard_dim_in", 0) == kDrivingKeys ? 4 : 6})
      .with("action_config", *actions);
}

}  // namespace orrery::models
