#include <array>

#include "layers/attention.h"
#include "models/wan/wan_transformer_3d_model.h"
#include "orrery/error.h"

// The layout of the original repository (Wan-Video/Wan2.1 and Wan2.2, wan/modules/model.py): its names, and the sizes that
// its tensors tell.
namespace orrery::models {
namespace {

using Names = std::map<std::string, std::string>;

constexpr int64_t kHeadDim = 128;  // of every released network

// diffusers' name and the original's, of what has a weight and a bias.
constexpr std::array<std::pair<const char*, const char*>, 11> kEnds = {{
    {"patch_embedding", "patch_embedding"},
    {"condition_embedder.time_embedder.linear_1", "time_embedding.0"},
    {"condition_embedder.time_embedder.linear_2", "time_embedding.2"},
    {"condition_embedder.time_proj", "time_projection.1"},
    {"condition_embedder.text_embedder.linear_1", "text_embedding.0"},
    {"condition_embedder.text_embedder.linear_2", "text_embedding.2"},
    {"condition_embedder.image_embedder.norm1", "img_emb.proj.0"},
    {"condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"},
    {"condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"},
    {"condition_embedder.image_embedder.norm2", "img_emb.proj.4"},
    {"proj_out", "head.head"},
}};
constexpr std::array<std::pair<const char*, const char*>, 17> kBlock = {{
    {"attn1.to_q", "self_attn.q"},
    {"attn1.to_k", "self_attn.k"},
    {"attn1.to_v", "self_attn.v"},
    {"attn1.to_out.0", "self_attn.o"},
    {"attn1.norm_q", "self_attn.norm_q"},
    {"attn1.norm_k", "self_attn.norm_k"},
    {"attn2.to_q", "cross_attn.q"},
    {"attn2.to_k", "cross_attn.k"},
    {"attn2.to_v", "cross_attn.v"},
    {"attn2.to_out.0", "cross_attn.o"},
    {"attn2.norm_q", "cross_attn.norm_q"},
    {"attn2.norm_k", "cross_attn.norm_k"},
    {"attn2.add_k_proj", "cross_attn.k_img"},
    {"attn2.add_v_proj", "cross_attn.v_img"},
    {"attn2.norm_added_k", "cross_attn.norm_k_img"},
    {"ffn.net.0.proj", "ffn.0"},
    {"ffn.net.2", "ffn.2"},
}};

// What stands in checkpoints of networks that grew out of this one and compute something else.
constexpr std::array<const char*, 8> kOtherNetworks = {"vace_blocks",     "motion_encoder",       "face_adapter",
                                                       "control_adapter", "casual_audio_encoder", "blocks.0.action_model",
                                                       "audio_proj",      "blocks.0.cam_encoder"};

void add_module(Names& names, const std::string& wanted, const std::string& stored) {
  for (const char* leaf : {".weight", ".bias"}) names[wanted + leaf] = stored + leaf;
}

int64_t side(const Weights& weights, const char* name, size_t axis) {
  const auto shape = weights.shape(name);
  return shape && axis < shape->size() ? shape->at(axis) : 0;
}

// `heads` 0: not known, so that each must have the width of the released ones.
std::optional<Config> describe(const Weights& weights, int64_t heads) {
  const auto patch = weights.shape("patch_embedding.weight"), head = weights.shape("head.head.weight");
  if (!patch || patch->size() != 5 || !head || head->size() != 2 || !weights.has("blocks.0.self_attn.q.weight") ||
      !weights.has("time_projection.1.weight"))
    return std::nullopt;
  for (const char* name : kOtherNetworks)
    if (weights.has_prefix(name)) return std::nullopt;
  const int64_t width = patch->at(0), volume = patch->at(2) * patch->at(3) * patch->at(4);
  if (width < 1 || volume < 1) return std::nullopt;
  if (heads == 0 && width % kHeadDim != 0)
    throw Error(ErrorKind::kConfig, {.place = weights.place(),
                                     .what = "does not tell its number of heads",
                                     .expected = "a width that is a multiple of " + std::to_string(kHeadDim),
                                     .got = std::to_string(width),
                                     .hint = "put the original config.json (WanModel) beside it and name the folder"});
  if (heads == 0) heads = width / kHeadDim;
  int64_t layers = 0;
  while (weights.has("blocks." + std::to_string(layers) + ".self_attn.q.weight")) ++layers;

  return Config::parse("{}", weights.place())
      .with("_class_name", std::string("WanTransformer3DModel"))
      .with("_dialect", std::string("original"))
      .with("patch_size", std::vector<int64_t>(patch->begin() + 2, patch->end()))
      .with("num_attention_heads", heads)
      .with("attention_head_dim", width / heads)
      .with("in_channels", patch->at(1))
      .with("out_channels", head->at(0) / volume)
      .with("text_dim", side(weights, "text_embedding.0.weight", 1))
      .with("freq_dim", side(weights, "time_embedding.0.weight", 1))
      .with("ffn_dim", side(weights, "blocks.0.ffn.0.weight", 0))
      .with("num_layers", layers)
      .with("cross_attn_norm", weights.has("blocks.0.norm3.weight"))
      .with("image_dim", side(weights, "img_emb.proj.0.weight", 0))
      .with("added_kv_proj_dim", side(weights, "blocks.0.cross_attn.k_img.weight", 1))
      .with("pos_embed_seq_len", side(weights, "img_emb.emb_pos", 1));
}

}  // namespace

Names original_wan_transformer_names(int64_t num_layers) {
  Names names;
  for (const auto& [wanted, stored] : kEnds) add_module(names, wanted, stored);
  names["condition_embedder.image_embedder.pos_embed"] = "img_emb.emb_pos";
  names["scale_shift_table"] = "head.modulation";
  for (int64_t i = 0; i < num_layers; ++i) {
    const std::string block = "blocks." + std::to_string(i) + ".";
    for (const auto& [wanted, stored] : kBlock) add_module(names, block + wanted, block + stored);
    add_module(names, block + "norm2", block + "norm3");  // the original counts its norms in another order
    names[block + "scale_shift_table"] = block + "modulation";
  }
  return names;
}

std::vector<Names> wan_transformer_layouts(const Config& config) {
  return {original_wan_transformer_names(config.get<int64_t>("num_layers", 40))};
}

std::optional<Config> describe_wan_transformer(const Weights& weights) {
  return describe(weights, 0);
}

std::unique_ptr<Component> build_wan_model(const Config& config, const Weights& weights) {
  const auto described = describe(weights, config.require<int64_t>("num_heads"));
  if (!described)
    throw Error(ErrorKind::kWeights, {.place = weights.place(),
                                      .what = "does not hold the tensors of a WanModel",
                                      .hint = "is this the network that the config.json belongs to?"});
  return build_wan_transformer_3d_model(layers::in_forms_of(described->with("eps", config.get<double>("eps", 1e-6)), config),
                                        weights);
}

}  // namespace orrery::models
