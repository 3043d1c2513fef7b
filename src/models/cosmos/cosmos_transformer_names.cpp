#include <array>

#include "models/cosmos/cosmos_transformer_3d_model.h"
#include "models/cosmos/token_decoder.h"
#include "orrery/error.h"

// The layouts of the original repositories: Predict1 (cosmos-predict1, general_dit.py) and Predict2 and 2.5
// (cosmos-predict2, text2image_dit.py; cosmos-predict2.5, minimal_v4_dit.py). Names, and the sizes that the tensors tell.
namespace orrery::models {
namespace {

using Names = std::map<std::string, std::string>;
using Pair = std::pair<const char*, const char*>;

// diffusers' name and the original's; each is a weight without bias.
struct Layout {
  std::vector<Pair> ends;
  std::string block;  // "blocks." or "blocks.block", before the index
  std::vector<Pair> parts;
};

const Layout kPredict1 = {
    {{"patch_embed.proj", "x_embedder.proj.1"},
     {"time_embed.t_embedder.linear_1", "t_embedder.1.linear_1"},
     {"time_embed.t_embedder.linear_2", "t_embedder.1.linear_2"},
     {"time_embed.norm", "affline_norm"},
     {"norm_out.linear_1", "final_layer.adaLN_modulation.1"},
     {"norm_out.linear_2", "final_layer.adaLN_modulation.2"},
     {"proj_out", "final_layer.linear"}},
    "blocks.block",
    {{"attn1.to_q", "blocks.0.block.attn.to_q.0"},      {"attn1.to_k", "blocks.0.block.attn.to_k.0"},
     {"attn1.to_v", "blocks.0.block.attn.to_v.0"},      {"attn1.norm_q", "blocks.0.block.attn.to_q.1"},
     {"attn1.norm_k", "blocks.0.block.attn.to_k.1"},    {"attn1.to_out.0", "blocks.0.block.attn.to_out.0"},
     {"attn2.to_q", "blocks.1.block.attn.to_q.0"},      {"attn2.to_k", "blocks.1.block.attn.to_k.0"},
     {"attn2.to_v", "blocks.1.block.attn.to_v.0"},      {"attn2.norm_q", "blocks.1.block.attn.to_q.1"},
     {"attn2.norm_k", "blocks.1.block.attn.to_k.1"},    {"attn2.to_out.0", "blocks.1.block.attn.to_out.0"},
     {"ff.net.0.proj", "blocks.2.block.layer1"},        {"ff.net.2", "blocks.2.block.layer2"},
     {"norm1.linear_1", "blocks.0.adaLN_modulation.1"}, {"norm1.linear_2", "blocks.0.adaLN_modulation.2"},
     {"norm2.linear_1", "blocks.1.adaLN_modulation.1"}, {"norm2.linear_2", "blocks.1.adaLN_modulation.2"},
     {"norm3.linear_1", "blocks.2.adaLN_modulation.1"}, {"norm3.linear_2", "blocks.2.adaLN_modulation.2"}}};

const Layout kPredict2 = {{{"patch_embed.proj", "x_embedder.proj.1"},
                           {"time_embed.t_embedder.linear_1", "t_embedder.1.linear_1"},
                           {"time_embed.t_embedder.linear_2", "t_embedder.1.linear_2"},
                           {"time_embed.norm", "t_embedding_norm"},
                           {"norm_out.linear_1", "final_layer.adaln_modulation.1"},
                           {"norm_out.linear_2", "final_layer.adaln_modulation.2"},
                           {"proj_out", "final_layer.linear"}},
                          "blocks.",
                          {{"attn1.to_q", "self_attn.q_proj"},
                           {"attn1.to_k", "self_attn.k_proj"},
                           {"attn1.to_v", "self_attn.v_proj"},
                           {"attn1.norm_q", "self_attn.q_norm"},
                           {"attn1.norm_k", "self_attn.k_norm"},
                           {"attn1.to_out.0", "self_attn.output_proj"},
                           {"attn2.to_q", "cross_attn.q_proj"},
                           {"attn2.to_k", "cross_attn.k_proj"},
                           {"attn2.to_v", "cross_attn.v_proj"},
                           {"attn2.norm_q", "cross_attn.q_norm"},
                           {"attn2.norm_k", "cross_attn.k_norm"},
                           {"attn2.to_out.0", "cross_attn.output_proj"},
                           {"ff.net.0.proj", "mlp.layer1"},
                           {"ff.net.2", "mlp.layer2"},
                           {"norm1.linear_1", "adaln_modulation_self_attn.1"},
                           {"norm1.linear_2", "adaln_modulation_self_attn.2"},
                           {"norm2.linear_1", "adaln_modulation_cross_attn.1"},
                           {"norm2.linear_2", "adaln_modulation_cross_attn.2"},
                           {"norm3.linear_1", "adaln_modulation_mlp.1"},
                           {"norm3.linear_2", "adaln_modulation_mlp.2"}}};

Names names_of(const Layout& layout, int64_t num_layers) {
  Names names;
  for (const auto& [wanted, stored] : layout.ends) names[std::string(wanted) + ".weight"] = std::string(stored) + ".weight";
  for (int64_t i = 0; i < num_layers; ++i)
    for (const auto& [wanted, stored] : layout.parts)
      names["transformer_blocks." + std::to_string(i) + "." + wanted + ".weight"] =
          layout.block + std::to_string(i) + "." + stored + ".weight";
  for (const char* axis : {"t", "h", "w"})
    names[std::string("learnable_pos_embed.pos_emb_") + axis] = std::string("extra_pos_embedder.pos_emb_") + axis;
  return names;
}

// What stands in checkpoints of networks that grew out of these and compute something else.
constexpr std::array<const char*, 5> kOtherNetworks = {"view_embeddings", "control_embedder", "repeat_frame_embedding",
                                                       "control_blocks", "token_embedder"};

// The sizes of a network, by the names of its layout.
struct Sizes {
  Sizes(const Weights& weights, const Layout& layout) : weights_(weights), names_(names_of(layout, 1)), layout_(layout) {}

  int64_t operator()(const std::string& wanted, size_t axis) const {
    const auto found = names_.find(wanted);
    const auto shape = weights_.shape(found == names_.end() ? wanted : found->second);
    return shape && axis < shape->size() ? shape->at(axis) : 0;
  }
  int64_t in_block(const std::string& wanted, size_t axis) const {
    return (*this)("transformer_blocks.0." + wanted + ".weight", axis);
  }
  int64_t layers() const {
    int64_t count = 0;
    while (weights_.has(layout_.block + std::to_string(count) + "." + layout_.parts.front().second + ".weight")) ++count;
    return count;
  }

 private:
  const Weights& weights_;
  Names names_;
  const Layout& layout_;
};

// How far positions are stretched, which no tensor tells: what each release was trained with.
std::vector<double> rope_scale_of(bool predict1, bool takes_video, bool projects_text, int64_t width) {
  constexpr int64_t kWidthOf14B = 5120;
  if (predict1) return width == kWidthOf14B ? std::vector<double>{2, 2, 2} : std::vector<double>{2, 1, 1};
  if (!takes_video) return {1, 4, 4};
  if (width == kWidthOf14B && !projects_text) return {20.0 / 24.0, 2, 2};
  return {1, 3, 3};
}

std::optional<Config> describe(const Weights& weights, const Layout& layout) {
  constexpr int64_t kPatch = 4;  // 1 x 2 x 2
  const bool predict1 = &layout == &kPredict1;
  const Sizes size(weights, layout);
  const int64_t width = size("patch_embed.proj.weight", 0), head_dim = size.in_block("attn1.norm_q", 0),
                layers = size.layers();
  const int64_t in_channels = size("patch_embed.proj.weight", 1) / kPatch - 1;  // one is the padding mask
  if (width < 1 || head_dim < 1 || layers < 1 || in_channels < 1 || width % head_dim != 0) return std::nullopt;

  const int64_t out_channels = size("proj_out.weight", 0) / kPatch;
  const int64_t projected = size("crossattn_proj.0.weight", 1);
  Config config =
      Config::parse("{}", weights.place())
          .with("_class_name", std::string("CosmosTransformer3DModel"))
          .with("_dialect", std::string("original"))
          .with("_generation", std::string(predict1 ? "predict1" : "predict2"))
          .with("in_channels", in_channels)
          .with("out_channels", out_channels)
          .with("num_attention_heads", width / head_dim)
          .with("attention_head_dim", head_dim)
          .with("num_layers", layers)
          .with("mlp_ratio", static_cast<double>(size.in_block("ff.net.0.proj", 0)) / static_cast<double>(width))
          .with("text_embed_dim", size.in_block("attn2.to_k", 1))
          .with("adaln_lora_dim", size.in_block("norm1.linear_1", 0))
          .with("qk_norm_eps", 1e-6)
          .with("patch_size", std::vector<int64_t>{1, 2, 2})
          .with("rope_scale", rope_scale_of(predict1, in_channels > out_channels, projected > 0, width))
          .with("concat_padding_mask", true)
          .with("extra_pos_embed_type", std::string(weights.has("extra_pos_embedder.pos_emb_t") ? "learnable" : ""));
  // Networks that project their text (Predict2.5) take the actions of each latent frame, earlier ones all at once.
  constexpr int64_t kActionsPerLatentFrame = 4;
  if (const int64_t features = size("action_embedder_B_D.fc1.weight", 1); features > 0)
    config = config.with("action_features", features)
                 .with("actions_per_latent_frame", projected > 0 ? kActionsPerLatentFrame : int64_t{0});
  if (weights.has("extra_pos_embedder.pos_emb_t"))
    config = config.with("max_size", std::vector<int64_t>{size("learnable_pos_embed.pos_emb_t", 0),
                                                          2 * size("learnable_pos_embed.pos_emb_h", 0),
                                                          2 * size("learnable_pos_embed.pos_emb_w", 0)});
  if (projected > 0)
    config = config.with("use_crossattn_projection", true)
                 .with("crossattn_proj_in_channels", projected)
                 .with("encoder_hidden_states_channels", size("crossattn_proj.0.weight", 0));
  return config;
}

}  // namespace

std::optional<Config> describe_cosmos_transformer(const Weights& weights) {
  for (const char* name : kOtherNetworks)
    if (weights.has_prefix(name)) return std::nullopt;
  if (auto config = describe(weights, kPredict1)) return config;
  return describe(weights, kPredict2);
}

std::optional<Config> describe_cosmos_token_decoder(const Weights& weights) {
  const auto tokens = weights.shape("token_embedder.weight");
  auto config = tokens && tokens->size() == 2 ? describe(weights, kPredict1) : std::nullopt;
  if (!config) return std::nullopt;
  return config->with("_class_name", std::string("DiffusionDecoderGeneralDIT"))
      .with("rope_scale", std::vector<double>{1, 1.5, 1.5})
      .with("token_vocabulary", (*tokens)[0])
      .with("token_dim", (*tokens)[1]);
}

std::vector<Names> cosmos_transformer_layouts(const Config& config) {
  const auto layers = config.get<int64_t>("num_layers", 28);
  return {names_of(kPredict2, layers), names_of(kPredict1, layers)};
}

std::unique_ptr<Component> build_cosmos_transformer_3d_model(const Config& config, const Weights& weights) {
  if (config.get<std::string>("_dialect", "diffusers") != "original")
    return std::make_unique<CosmosTransformer3DModel>(config, weights);
  const bool predict1 = config.get<std::string>("_generation", "predict2") == "predict1";
  const Layout& layout = predict1 ? kPredict1 : kPredict2;
  // Counters of training, and tables that are computed here.
  for (const char* name : {"logvar", "pos_embedder", "accum_video_sample_counter", "accum_image_sample_counter",
                           "accum_iteration", "accum_train_in_hours"})
    weights.ignore(name);
  return std::make_unique<CosmosTransformer3DModel>(
      config, weights.renamed(names_of(layout, config.get<int64_t>("num_layers", 28))));
}

}  // namespace orrery::models
