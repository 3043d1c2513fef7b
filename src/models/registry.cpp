#include "models/registry.h"

#include <algorithm>

#include "models/cosmos/cosmos_actions.h"
#include "models/cosmos/cosmos_controlnet_model.h"
#include "models/cosmos/cosmos_folder.h"
#include "models/cosmos/cosmos_recipes.h"
#include "models/cosmos/cosmos_transformer_3d_model.h"
#include "models/cosmos/token_decoder.h"
#include "models/cosmos/tokenizer.h"
#include "models/cosmos_ar/transformer.h"
#include "models/genie/st_mask_git.h"
#include "models/genie/vq_model.h"
#include "models/oasis/dit.h"
#include "models/oasis/oasis.h"
#include "models/oasis/vit_autoencoder.h"
#include "models/rssm/rssm.h"
#include "models/tiny/autoencoder_kl.h"
#include "models/tiny/taehv.h"
#include "models/tiny/taesd.h"
#include "models/tinyworlds/tiny_world.h"
#include "models/wan/causal_wan_model.h"
#include "models/wan/causal_wan_world.h"
#include "models/wan/wan.h"
#include "models/wan/wan_recipe.h"
#include "models/wan/wan_transformer_3d_model.h"
#include "models/world/orrery_world.h"
#include "models/world/world_tokenizer.h"
#include "models/world/world_transformer.h"
#include "orrery/error.h"
#include "text/qwen2_5_vl_text_model.h"
#include "text/t5_encoder_model.h"
#include "vision/clip_vision_model.h"

namespace orrery::models {
namespace {

// A WeightForm and an AttentionForm, for those who read them: layers::weight_form(), layers::attention_form().
constexpr const char* kWeightForm = "weights_in_memory";
constexpr const char* kAttentionForm = "attention_in_bits";

template <typename Table>
const auto* found_in(const Table& table, const std::string& class_name) {
  const auto entry =
      std::find_if(table.begin(), table.end(), [&](const auto& each) { return each.class_name == class_name; });
  return entry == table.end() ? nullptr : &*entry;
}

template <typename Table>
const auto& find_class(const Table& table, const std::string& class_name, const std::string& place) {
  if (const auto* entry = found_in(table, class_name)) return *entry;
  std::string known;
  for (const auto& entry : table) known += (known.empty() ? "" : ", ") + std::string(entry.class_name);
  throw Error(ErrorKind::kUnsupported,
              {.place = place, .what = "the class '" + class_name + "' is not known", .expected = "one of " + known});
}

}  // namespace

// One line a class. A family's name appears in its own folder and here, nowhere else.
const std::vector<Entry>& entries() {
  static const std::vector<Entry> table = {
      {"AutoencoderKLCosmos", "vae", build_cosmos_autoencoder},
      {"CLIPVisionModel", "image_encoder", vision::build_clip_vision_model},
      {"CLIPVisionModelWithProjection", "image_encoder", vision::build_clip_vision_model},
      {"CausalContinuousVideoTokenizer", "vae", build_cosmos_autoencoder},
      {"CausalDiscreteVideoTokenizer", "vae", build_cosmos_autoencoder},
      {"ContinuousImageTokenizer", "vae", build_cosmos_autoencoder},
      {"DiscreteImageTokenizer", "vae", build_cosmos_autoencoder},
      {"AutoencoderKL", "vae", build_autoencoder_kl},
      {"AutoencoderTiny", "vae", build_autoencoder_tiny},
      {"TAEHV", "vae", build_taehv},
      {"TAESD", "vae", build_taesd},
      {"AutoencoderKLWan", "vae", build_autoencoder_kl_wan},
      {"Transformer", "dynamics", build_cosmos_ar},
      {"STMaskGIT", "dynamics", build_genie},
      {"VQModel", "vae", build_vq_model},
      {"VideoTokenizer", "vae", build_tiny_video_tokenizer},
      {"LatentActionModel", "latent_actions", build_tiny_latent_actions},
      {"DynamicsModel", "dynamics", build_tiny_dynamics},
      {"CosmosControlNetModel", "controlnet", build_cosmos_controlnet_model},
      {"CosmosTransformer3DModel", "transformer", build_cosmos_transformer_3d_model, cosmos_transformer_layouts},
      {"DiffusionDecoderGeneralDIT", "transformer", build_cosmos_token_decoder},
      {"CausalWanModel", "transformer", build_causal_wan_model},
      {"DiT", "transformer", build_oasis_dit},
      {"OasisAutoencoderKL", "vae", build_oasis_autoencoder_kl},
      {"OrreryTokenizer", "vae", build_orrery_tokenizer},
      {"OrreryWorldTransformer", "transformer", build_orrery_world_transformer},
      {"Qwen2_5_VLForConditionalGeneration", "text_encoder", text::build_qwen2_5_vl_text_model},
      {"T5EncoderModel", "text_encoder", text::build_t5_encoder_model},
      {"T5ForConditionalGeneration", "text_encoder", text::build_t5_encoder_model},
      {"UMT5EncoderModel", "text_encoder", text::build_t5_encoder_model},
      {"WorldModel", "dynamics", build_rssm_world_model},
      {"WanModel", "transformer", build_wan_model, wan_transformer_layouts},
      {"WanTransformer3DModel", "transformer", build_wan_transformer_3d_model, wan_transformer_layouts},
  };
  return table;
}

const std::vector<PipelineEntry>& pipeline_entries() {
  static const std::vector<PipelineEntry> table = {
      {"ActionVideo2WorldInference", build_cosmos_predict25_recipe},
      {"CausalInferencePipeline", build_causal_wan_recipe},
      {"Cosmos2TextToImagePipeline", build_cosmos_predict2_recipe, cosmos_predict2_scheduler},
      {"Cosmos2VideoToWorldPipeline", build_cosmos_predict2_recipe, cosmos_predict2_scheduler},
      {"Cosmos2_5_PredictBasePipeline", build_cosmos_predict25_recipe},
      {"Cosmos2_5_TransferPipeline", build_cosmos_transfer25_recipe},
      {"CosmosTextToWorldPipeline", build_cosmos_predict1_recipe},
      {"CosmosVideoToWorldPipeline", build_cosmos_predict1_recipe},
      {"DiffusionDecoderGeneralDIT", build_cosmos_token_decoder_recipe},
      {"Video2WorldActionConditionedPipeline", build_cosmos_predict2_recipe, cosmos_predict2_scheduler},
      {"WanImageToVideoPipeline", build_wan_recipe},
      {"WanPipeline", build_wan_recipe},
  };
  return table;
}

const std::vector<WorldEntry>& world_entries() {
  static const std::vector<WorldEntry> table = {
      {"ActionVideo2WorldInference", build_cosmos_action_world, cosmos_action_space},
      {"ActionVideo2WorldSelfForcing", build_cosmos_causal_world, cosmos_causal_action_space},
      {"CausalInferencePipeline", build_causal_wan_world, causal_wan_actions},
      {"OasisWorldPipeline", build_oasis_world, oasis_actions},
      {"OrreryWorldPipeline", build_orrery_world, orrery_world_actions},
      {"RssmWorldPipeline", build_rssm_world, rssm_world_actions},
      {"TinyWorldsPipeline", build_tiny_world, tiny_world_actions, tiny_world_clip},
      {"Video2WorldActionConditionedPipeline", build_cosmos_action_world, cosmos_action_space},
  };
  return table;
}

const std::vector<BundleEntry>& bundle_entries() {
  static const std::vector<BundleEntry> table = {
      {"CausalInferencePipeline", {"CausalWanModel", "AutoencoderKLWan"}},
      {"OasisWorldPipeline", {"DiT", "OasisAutoencoderKL"}},
      {"TinyWorldsPipeline", {"VideoTokenizer", "LatentActionModel", "DynamicsModel"}},
  };
  return table;
}

// The first that recognises a checkpoint wins, so the most specific stand first.
const std::vector<Describer>& describers() {
  static const std::vector<Describer> table = {describe_causal_wan, describe_oasis_dit, describe_oasis_autoencoder, describe_rssm_world_model,
                                               describe_cosmos_tokenizer, describe_taehv,     describe_taesd,
                                               describe_wan_vae,          describe_cosmos_ar, describe_cosmos_token_decoder, describe_cosmos_transformer,
                                               describe_wan_transformer,  text::describe_original_umt5, vision::describe_clip_vision_model,
                                               describe_genie,            describe_vq_model,  describe_tiny_world};
  return table;
}

const std::vector<FolderDescriber>& folder_describers() {
  static const std::vector<FolderDescriber> table = {describe_wan_folder, describe_cosmos_folder};
  return table;
}

Config in_form(const Config& config, WeightForm weights, AttentionForm attention) {
  const Config formed =
      weights == WeightForm::kStored ? config : config.with(kWeightForm, static_cast<int64_t>(weights));
  return attention == AttentionForm::kExact ? formed : formed.with(kAttentionForm, static_cast<int64_t>(attention));
}

void check_form(const Config& config, const std::string& class_name) {
  const std::vector<std::string> unread = config.unread();
  const auto ignored = [&](const char* key) { return std::find(unread.begin(), unread.end(), key) != unread.end(); };
  if (ignored(kWeightForm))
    throw Error(ErrorKind::kUnsupported, {.place = class_name,
                                          .what = "keeps its matrices as they are stored",
                                          .hint = "leave --weights away"});
  if (ignored(kAttentionForm))
    throw Error(ErrorKind::kUnsupported, {.place = class_name,
                                          .what = "has no attention in 8 bits, which is for diffusion transformers",
                                          .hint = "leave --attention away"});
}

const Entry& entry_of(const std::string& class_name, const std::string& place) {
  return find_class(entries(), class_name, place);
}

const PipelineEntry& pipeline_entry_of(const std::string& class_name, const std::string& place) {
  if (!found_in(pipeline_entries(), class_name) && found_in(world_entries(), class_name))
    throw Error(ErrorKind::kUnsupported, {.place = place,
                                          .what = class_name + " is a world that is driven step by step, by its actions",
                                          .hint = "orrery rollout or orrery play drives it, in a program World"});
  return find_class(pipeline_entries(), class_name, place);
}

const WorldEntry& world_entry_of(const std::string& class_name, const std::string& place) {
  if (!found_in(world_entries(), class_name) && found_in(pipeline_entries(), class_name))
    throw Error(ErrorKind::kUnsupported, {.place = place,
                                          .what = class_name + " imagines clips and is not driven step by step",
                                          .hint = "orrery generate runs it, in a program WorldModelPipeline"});
  return find_class(world_entries(), class_name, place);
}

}  // namespace orrery::models
