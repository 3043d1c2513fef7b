#include "models/cosmos_ar/config.h"

#include "layers/linear.h"

namespace orrery::models {
namespace {

void check(const Config& config, const CosmosArConfig& c) {
  const std::string& norm = c.norm_type;
  config.check(norm == "rmsnorm" || norm == "compiled_rmsnorm" || norm == "layernorm" || norm == "np_layernorm", "norm_type",
               "rmsnorm, compiled_rmsnorm, layernorm or np_layernorm");
  config.check(c.rope_dim == "1D" || c.rope_dim == "3D", "rope_dim", "1D or 3D");
  config.check(c.pytorch_rope_version == "v1" || c.pytorch_rope_version == "v2", "pytorch_rope_version", "v1 or v2");
  config.check(c.dim > 0 && c.n_layers > 0 && c.n_heads > 0 && c.head_dim > 0, "dim", "sizes above 0");
  config.check(c.n_kv_heads > 0 && c.n_heads % c.n_kv_heads == 0, "n_kv_heads", "a divisor of n_heads");
  config.check(c.head_dim % 2 == 0, "head_dim", "an even number");
  config.check(c.pad_to_multiple_of > 0, "pad_to_multiple_of", "a number above 0");
  config.check(c.insert_cross_attn_every_k_layers > 0, "insert_cross_attn_every_k_layers", "a number above 0");
  const bool grid = c.rope_dim == "3D" || c.apply_abs_pos_emb;
  config.check(!grid || c.video_latent_shape.size() == 3, "video_latent_shape", "three numbers, [t, h, w]");
  config.check(!c.apply_yarn || c.rope_dim == "1D" || c.original_latent_shape.size() == 3, "original_latent_shape",
               "three numbers, [t, h, w]");
}

// What the shapes cannot tell, by number of layers and whether text conditions the model.
struct Preset {
  const char* name;
  int64_t n_layers;
  bool text;
  bool yarn;
};
constexpr Preset kPresets[] = {
    {"Cosmos-Predict1-4B", 16, false, false},
    {"Cosmos-Predict1-5B-Video2World", 16, true, false},
    {"Cosmos-Predict1-12B", 40, false, true},
    {"Cosmos-Predict1-13B-Video2World", 40, true, true},
};

}  // namespace

CosmosArConfig CosmosArConfig::from(const Config& config) {
  CosmosArConfig c;
  c.dim = config.get("dim", c.dim);
  c.n_layers = config.get("n_layers", c.n_layers);
  c.n_heads = config.get("n_heads", c.n_heads);
  c.n_kv_heads = config.has("n_kv_heads") ? config.require<int64_t>("n_kv_heads") : c.n_heads;
  c.head_dim = config.get("head_dim", c.n_heads > 0 ? c.dim / c.n_heads : 0);
  c.vocab_size = config.get("vocab_size", c.vocab_size);
  c.ffn_hidden_size = config.get("ffn_hidden_size", c.ffn_hidden_size);
  c.norm_type = config.get("norm_type", c.norm_type);
  c.norm_eps = config.get("norm_eps", c.norm_eps);
  c.use_qk_normalization = config.get("use_qk_normalization", c.use_qk_normalization);
  c.max_seq_len = config.get("max_seq_len", c.max_seq_len);
  c.rope_dim = config.get("rope_dim", c.rope_dim);
  c.pytorch_rope_version = config.get("pytorch_rope_version", c.pytorch_rope_version);
  c.rope_theta = config.get("rope_theta", c.rope_theta);
  c.video_latent_shape = config.get("video_latent_shape", c.video_latent_shape);
  c.pad_to_multiple_of = config.get("pad_to_multiple_of", c.pad_to_multiple_of);
  c.apply_abs_pos_emb = config.get("apply_abs_pos_emb", c.apply_abs_pos_emb);
  c.apply_yarn = config.get("apply_yarn", c.apply_yarn);
  c.yarn_scale = config.get("yarn_scale", c.yarn_scale);
  c.yarn_beta_fast = config.get("yarn_beta_fast", c.yarn_beta_fast);
  c.yarn_beta_slow = config.get("yarn_beta_slow", c.yarn_beta_slow);
  c.original_seq_len = config.get("original_seq_len", c.original_seq_len);
  c.original_latent_shape = config.get("original_latent_shape", c.original_latent_shape);
  c.insert_cross_attn = config.get("insert_cross_attn", c.insert_cross_attn);
  c.insert_cross_attn_every_k_layers = config.get("insert_cross_attn_every_k_layers", c.insert_cross_attn_every_k_layers);
  c.context_dim = config.get("context_dim", c.context_dim);
  c.text_to_video = config.get("training_type", std::string()) == "text_to_video";
  c.weight_form = layers::weight_form(config);
  check(config, c);
  return c;
}

std::optional<Config> describe_cosmos_ar(const Weights& weights) {
  const auto size = [&](const char* name, size_t dim) -> int64_t {
    const auto shape = weights.shape(name);
    return shape && dim < shape->size() ? (*shape)[dim] : 0;
  };
  const int64_t dim = size("tok_embeddings.weight", 1), head_dim = size("layers.0.attention.q_norm.weight", 0);
  const int64_t queries = size("layers.0.attention.wq.weight", 0), keys = size("layers.0.attention.wk.weight", 0);
  if (dim == 0 || head_dim == 0 || queries == 0 || keys == 0) return std::nullopt;
  int64_t n_layers = 0;
  while (weights.has("layers." + std::to_string(n_layers) + ".attention.wq.weight")) ++n_layers;
  const bool text = weights.has("layers.0.cross_attention.wk.weight");
  for (const Preset& preset : kPresets) {
    if (preset.n_layers != n_layers || preset.text != text) continue;
    const std::vector<int64_t> grid = {5, 40, 64};  // 33 frames of 640x1024 through the tokenizer DV8x16x16
    Config config = Config()
                        .with("_class_name", std::string("Transformer"))
                        .with("dim", dim)
                        .with("n_layers", n_layers)
                        .with("n_heads", queries / head_dim)
                        .with("n_kv_heads", keys / head_dim)
                        .with("head_dim", head_dim)
                        .with("ffn_hidden_size", size("layers.0.feed_forward.w1.weight", 0))
                        .with("vocab_size", size("output.weight", 0))
                        .with("use_qk_normalization", true)
                        .with("rope_dim", std::string("3D"))
                        .with("video_latent_shape", grid)
                        .with("pad_to_multiple_of", int64_t{64})
                        .with("max_seq_len", int64_t{text ? 12864 : 12800});
    if (preset.yarn)
      config = config.with("apply_yarn", true)
                   .with("yarn_scale", 2.0)
                   .with("yarn_beta_fast", 4.0)
                   .with("yarn_beta_slow", 1.0)
                   .with("original_latent_shape", std::vector<int64_t>{3, 40, 64});
    if (text)
      config = config.with("insert_cross_attn", true)
                   .with("context_dim", size("layers.0.cross_attention.wk.weight", 1))
                   .with("apply_abs_pos_emb", true)
                   .with("training_type", std::string("text_to_video"));
    return config;
  }
  return std::nullopt;
}

}  // namespace orrery::models
