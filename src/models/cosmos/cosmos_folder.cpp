#include "models/cosmos/cosmos_folder.h"

#include <set>
#include <string>

// Source: nvidia-cosmos/cosmos-predict1 world_generation_pipeline.py and cosmos-predict2 imaginaire/constants.py, which say
// where the repositories look for each file.
namespace orrery::models {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEdm =
    R"({"_class_name": "EDMEulerScheduler", "sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5,
                                 "rho": 7.0, "final_sigmas_type": "sigma_min"})";
constexpr const char* kKarras =
    R"({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_karras_sigmas": true, "sigma_min": 0.002,
                                    "sigma_max": 80.0, "sigma_data": 1.0, "final_sigmas_type": "sigma_min"})";
constexpr const char* kUniPC =
    R"({"_class_name": "UniPCMultistepScheduler", "use_karras_sigmas": true, "use_flow_sigmas": true,
                                   "prediction_type": "flow_prediction", "sigma_max": 200.0, "sigma_min": 0.01})";

constexpr const char* kTokenDecoder =
    R"({"_class_name": "EDMEulerScheduler", "sigma_min": 0.02, "sigma_max": 80.0, "sigma_data": 0.5})";

// The network's file: "model.pt" or the only other one that lies in the folder itself; empty where there are none or
// several.
fs::path network_file(const fs::path& folder) {
  if (fs::exists(folder / "model.pt")) return folder / "model.pt";
  std::set<fs::path> found;
  for (const auto& item : fs::directory_iterator(folder)) {
    const std::string name = item.path().filename().string();
    if (item.is_regular_file() && item.path().extension() == ".pt" && !name.ends_with("mean_std.pt"))
      found.insert(item.path());
  }
  return found.size() == 1 ? *found.begin() : fs::path();
}

fs::path first_of(const fs::path& folder, std::initializer_list<const char*> places) {
  for (const char* place : places)
    if (fs::exists(folder / place)) return (folder / place).lexically_normal();
  return {};
}

// What a pipeline of this network is called, and how it is sampled where diffusers' way is asked for.
struct Kind {
  const char* class_name;
  const char* scheduler;
};

Kind kind_of(const Config& network) {
  if (network.has("token_vocabulary")) return {"DiffusionDecoderGeneralDIT", kTokenDecoder};
  const bool acts = network.get<int64_t>("action_features", 0) > 0;
  const bool takes_video = network.get<int64_t>("in_channels", 16) > network.get<int64_t>("out_channels", 16);
  if (network.get<std::string>("_generation", "") == "predict1")
    return {takes_video ? "CosmosVideoToWorldPipeline" : "CosmosTextToWorldPipeline", kEdm};
  if (network.get<bool>("use_crossattn_projection", false))
    return {acts ? "ActionVideo2WorldInference" : "Cosmos2_5_PredictBasePipeline", kUniPC};
  if (acts) return {"Video2WorldActionConditionedPipeline", kKarras};
  return {takes_video ? "Cosmos2VideoToWorldPipeline" : "Cosmos2TextToImagePipeline", kKarras};
}

}  // namespace

std::optional<ModelDescription> describe_cosmos_folder(const fs::path& folder, RecogniseFile recognise) {
  const fs::path file = network_file(folder);
  const fs::path tokenizer = first_of(
      folder, {"tokenizer/tokenizer.pth", "tokenizer.pth", "../../tokenizer.pth", "../Cosmos-Tokenize1-CV8x8x8-720p"});
  if (file.empty() || tokenizer.empty()) return std::nullopt;
  ComponentDescription network = recognise(file), vae = recognise(tokenizer);
  const bool known = network.class_name == "CosmosTransformer3DModel" || network.class_name == "DiffusionDecoderGeneralDIT";
  if (!known || network.dialect != "original" || vae.class_name.empty()) return std::nullopt;

  const Kind kind = kind_of(network.config);
  ModelDescription model{"pipeline", kind.class_name, folder, {}};
  model.index = Config::parse("{}", folder.string()).with("_class_name", model.class_name);
  network.name = "transformer";
  vae.name = "vae";
  model.components = {network, vae};
  const fs::path t5 = first_of(folder, {"text_encoder", "../google-t5/t5-11b", "../../google-t5/t5-11b"});
  if (!t5.empty() && fs::exists(t5 / "config.json")) {
    const Config config = Config::load(t5 / "config.json");
    model.components.push_back({"text_encoder", "T5EncoderModel", config, t5, "original"});
    const fs::path words = fs::exists(t5 / "spiece.model") ? t5 : folder / "tokenizer";
    model.components.push_back({"tokenizer", "T5TokenizerFast", Config(), words, "original"});
  }
  const Config scheduler = Config::parse(kind.scheduler, folder.string());
  model.components.push_back({"scheduler", scheduler.get<std::string>("_class_name", ""), scheduler, {}, "original"});
  return model;
}

}  // namespace orrery::models
