#include "models/wan/action_module.h"

#include <ATen/ATen.h>

#include "layers/attention.h"
#include "layers/norm.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr double kQkNormEps = 1e-6;
constexpr double kMlpNormEps = 1e-5;

// Attention of [N,t,heads,d] to its own keys and those before: `own` and `past` [2,N',T,heads,d], N' = N or 1.
at::Tensor attend(const at::Tensor& query, const at::Tensor& own, const at::Tensor& past) {
  at::Tensor seen = past.defined() ? at::cat({past, own}, 2) : own;
  if (seen.size(1) != query.size(0)) seen = seen.expand({2, query.size(0), -1, -1, -1});
  return layers::attention(query, seen[0], seen[1]);
}

}  // namespace

ActionModuleConfig::ActionModuleConfig(const Config& config)
    : blocks(config.get<std::vector<int64_t>>("blocks", {})),
      enable_mouse(config.get<bool>("enable_mouse", true)),
      enable_keyboard(config.get<bool>("enable_keyboard", true)),
      mouse_dim_in(config.get<int64_t>("mouse_dim_in", 2)),
      keyboard_dim_in(config.get<int64_t>("keyboard_dim_in", 6)),
      hidden_size(config.get<int64_t>("hidden_size", 128)),
      img_hidden_size(config.get<int64_t>("img_hidden_size", 1536)),
      keyboard_hidden_dim(config.get<int64_t>("keyboard_hidden_dim", 1024)),
      mouse_hidden_dim(config.get<int64_t>("mouse_hidden_dim", 1024)),
      heads_num(config.get<int64_t>("heads_num", 16)),
      vae_time_compression_ratio(config.get<int64_t>("vae_time_compression_ratio", 4)),
      windows_size(config.get<int64_t>("windows_size", 3)),
      rope_dim_list(config.get<std::vector<int64_t>>("rope_dim_list", {8, 28, 28})),
      rope_theta(config.get<double>("rope_theta", 256)) {
  if (config.get<bool>("qkv_bias", false) || !config.get<bool>("qk_norm", true) || rope_dim_list.empty())
    throw Error(ErrorKind::kUnsupported, {.place = config.place() + ": action_config",
                                          .what = "asks for a form that no release has",
                                          .expected = "qkv_bias false, qk_norm true, a rope_dim_list"});
}

ActionModule::ActionModule(const Weights& weights, const ActionModuleConfig& config) : config_(config) {
  const int64_t width = config.img_hidden_size;
  if (config.enable_mouse) {
    const int64_t hidden = config.mouse_hidden_dim;
    mouse_mlp_in =
        layers::Linear(weights.sub("mouse_mlp.0"), config.mouse_dim_in * config.window() + width, hidden, /*bias=*/true);
    mouse_mlp_out = layers::Linear(weights.sub("mouse_mlp.2"), hidden, hidden, /*bias=*/true);
    mouse_norm_weight = weights.get("mouse_mlp.3.weight", {hidden});
    mouse_norm_bias = weights.get("mouse_mlp.3.bias", {hidden});
    t_qkv = layers::Linear(weights.sub("t_qkv"), hidden, 3 * hidden, /*bias=*/false);
    proj_mouse = layers::Linear(weights.sub("proj_mouse"), hidden, width, /*bias=*/false);
  }
  if (config.enable_keyboard) {
    const int64_t hidden = config.keyboard_hidden_dim;
    keyboard_embed_in =
        layers::Linear(weights.sub("keyboard_embed.0"), config.keyboard_dim_in, config.hidden_size, /*bias=*/true);
    keyboard_embed_out =
        layers::Linear(weights.sub("keyboard_embed.2"), config.hidden_size, config.hidden_size, /*bias=*/true);
    mouse_attn_q = layers::Linear(weights.sub("mouse_attn_q"), width, hidden, /*bias=*/false);
    keyboard_attn_kv =
        layers::Linear(weights.sub("keyboard_attn_kv"), config.hidden_size * config.window(), 2 * hidden, /*bias=*/false);
    proj_keyboard = layers::Linear(weights.sub("proj_keyboard"), hidden, width, /*bias=*/false);
  }
  // The gains of these norms lie in the checkpoint, and the reference does not apply them.
  for (const char* name : {"img_attn_q_norm", "img_attn_k_norm", "key_attn_q_norm", "key_attn_k_norm"}) weights.ignore(name);
}

// Only time turns: the first rope_dim_list[0] channels of a head, by the number of the latent frame.
layers::Rotary ActionModule::rotary(int64_t first_frame, int64_t frames, int64_t head_dim) const {
  const int64_t dim = config_.rope_dim_list.front();
  const at::Tensor frequencies =
      at::pow(config_.rope_theta, at::arange(0, dim, 2, at::kFloat) / static_cast<double>(dim)).reciprocal();
  at::Tensor angles = at::outer(at::arange(first_frame, first_frame + frames, at::kFloat), frequencies);
  angles = at::constant_pad_nd(angles, {0, (head_dim - dim) / 2});
  return {angles.cos(), angles.sin()};
}

at::Tensor ActionModule::forward(const at::Tensor& hidden_states, const ActionWindows& actions, int64_t first_frame,
                                 const Keys& past, Keys& own) const {
  at::Tensor out = hidden_states;
  if (config_.enable_mouse && actions.mouse.defined())
    out = out + mouse(hidden_states, actions.mouse, first_frame, past.mouse, own.mouse);
  if (config_.enable_keyboard && actions.keyboard.defined())
    out = out + keyboard(out, actions.keyboard, first_frame, past.keyboard, own.keyboard);
  return out;
}

at::Tensor ActionModule::mouse(const at::Tensor& hidden_states, const at::Tensor& actions, int64_t first_frame,
                               const at::Tensor& past, at::Tensor& own) const {
  const int64_t batch = hidden_states.size(0), frames = actions.size(1), places = hidden_states.size(1) / frames;
  // [B,t·S,D] → [B·S,t,D], and the same mouse for every place
  const at::Tensor lanes =
      hidden_states.view({batch, frames, places, -1}).transpose(1, 2).reshape({batch * places, frames, -1});
  const at::Tensor moves =
      actions.flatten(2).unsqueeze(1).expand({batch, places, frames, -1}).reshape({batch * places, frames, -1});
  at::Tensor inner = mouse_mlp_out(at::gelu(mouse_mlp_in(at::cat({lanes, moves}, -1)), "tanh"));
  inner = layers::layer_norm(inner, kMlpNormEps, mouse_norm_weight, mouse_norm_bias);

  const auto qkv = t_qkv(inner).view({batch * places, frames, 3, config_.heads_num, -1}).unbind(2);
  const layers::Rotary angles = rotary(first_frame, frames, qkv[0].size(-1)).to(qkv[0].device());
  const at::Tensor query = rotate(layers::rms_norm(qkv[0], {}, kQkNormEps), angles, layers::RotaryPairs::kNeighbours);
  const at::Tensor key = rotate(layers::rms_norm(qkv[1], {}, kQkNormEps), angles, layers::RotaryPairs::kNeighbours);
  own = at::stack({key, qkv[2]});
  const at::Tensor attended = attend(query, own, past);  // [B·S,t,hidden]
  return proj_mouse(attended.reshape({batch, places, frames, -1}).transpose(1, 2).reshape({batch, frames * places, -1}));
}

at::Tensor ActionModule::keyboard(const at::Tensor& hidden_states, const at::Tensor& actions, int64_t first_frame,
                                  const at::Tensor& past, at::Tensor& own) const {
  const int64_t batch = hidden_states.size(0), frames = actions.size(1), places = hidden_states.size(1) / frames;
  const at::Tensor presses =
      keyboard_embed_out(at::silu(keyboard_embed_in(actions))).flatten(2);  // [B,t,window·hidden_size]
  const auto kv = keyboard_attn_kv(presses).view({batch, frames, 2, config_.heads_num, -1}).unbind(2);
  const layers::Rotary angles = rotary(first_frame, frames, kv[0].size(-1)).to(kv[0].device());
  own = at::stack({rotate(layers::rms_norm(kv[0], {}, kQkNormEps), angles, layers::RotaryPairs::kNeighbours), kv[1]});

  at::Tensor query = mouse_attn_q(hidden_states).view({batch, frames, places, config_.heads_num, -1});
  query = query.transpose(1, 2).reshape({batch * places, frames, config_.heads_num, -1});
  query = rotate(layers::rms_norm(query, {}, kQkNormEps), angles, layers::RotaryPairs::kNeighbours);
  const auto for_places = [&](const at::Tensor& keys) {  // [2,B,T,…] → [2,B·S,T,…]
    return keys.defined() && batch > 1 ? keys.repeat_interleave(places, 1) : keys;
  };
  const at::Tensor attended = attend(query, for_places(own), for_places(past));
  return proj_keyboard(attended.reshape({batch, places, frames, -1}).transpose(1, 2).reshape({batch, frames * places, -1}));
}

}  // namespace orrery::models
