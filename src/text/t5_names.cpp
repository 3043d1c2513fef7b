#include <array>

#include "text/t5_encoder_model.h"

// The UMT5 encoder as Wan's original repository saves it (Wan-Video/Wan2.1 wan/modules/t5.py): its names, and the sizes that
// its tensors tell.
namespace orrery::text {
namespace {

constexpr std::array<std::pair<const char*, const char*>, 10> kBlock = {{
    {"layer.0.layer_norm", "norm1"},
    {"layer.0.SelfAttention.q", "attn.q"},
    {"layer.0.SelfAttention.k", "attn.k"},
    {"layer.0.SelfAttention.v", "attn.v"},
    {"layer.0.SelfAttention.o", "attn.o"},
    {"layer.0.SelfAttention.relative_attention_bias", "pos_embedding.embedding"},
    {"layer.1.layer_norm", "norm2"},
    {"layer.1.DenseReluDense.wi_0", "ffn.gate.0"},
    {"layer.1.DenseReluDense.wi_1", "ffn.fc1"},
    {"layer.1.DenseReluDense.wo", "ffn.fc2"},
}};

}  // namespace

std::map<std::string, std::string> original_umt5_names(int64_t num_layers) {
  std::map<std::string, std::string> names = {{"shared.weight", "token_embedding.weight"},
                                              {"encoder.final_layer_norm.weight", "norm.weight"}};
  for (int64_t i = 0; i < num_layers; ++i)
    for (const auto& [wanted, stored] : kBlock)
      names["encoder.block." + std::to_string(i) + "." + wanted + ".weight"] =
          "blocks." + std::to_string(i) + "." + stored + ".weight";
  return names;
}

std::optional<Config> describe_original_umt5(const Weights& weights) {
  const auto embedding = weights.shape("token_embedding.weight"), q = weights.shape("blocks.0.attn.q.weight"),
             bias = weights.shape("blocks.0.pos_embedding.embedding.weight"),
             gate = weights.shape("blocks.0.ffn.gate.0.weight");
  for (const auto& shape : {embedding, q, bias, gate})
    if (!shape || shape->size() != 2 || shape->at(0) < 1 || shape->at(1) < 1) return std::nullopt;
  const int64_t heads = bias->at(1);
  if (q->at(0) % heads != 0) return std::nullopt;
  int64_t layers = 0;
  while (weights.has("blocks." + std::to_string(layers) + ".attn.q.weight")) ++layers;
  return Config::parse("{}", weights.place())
      .with("_class_name", std::string("UMT5EncoderModel"))
      .with("_dialect", std::string("original"))
      .with("model_type", std::string("umt5"))
      .with("vocab_size", embedding->at(0))
      .with("d_model", embedding->at(1))
      .with("d_kv", q->at(0) / heads)
      .with("d_ff", gate->at(0))
      .with("num_layers", layers)
      .with("num_heads", heads)
      .with("relative_attention_num_buckets", bias->at(0))
      .with("feed_forward_proj", std::string("gated-gelu"));
}

}  // namespace orrery::text
