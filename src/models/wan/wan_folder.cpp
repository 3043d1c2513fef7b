#include <string>

#include "models/registry.h"
#include "models/wan/wan.h"

// The folders in which Wan-Video publishes: config.json and the network's shards at the top (Wan 2.1, TI2V-5B) or in a
// folder for each expert (A14B), and beside them the VAE, UMT5, its tokenizer and, for Wan 2.1's image-to-video, CLIP.
namespace orrery::models {
namespace {

namespace fs = std::filesystem;

constexpr const char* kExperts[] = {"high_noise_model", "low_noise_model"};
constexpr const char* kTokenizer = "google/umt5-xxl";
// As the repositories prepare a picture for CLIP: all of it, squeezed, without antialiasing.
constexpr const char* kImageProcessor =
    R"({"_class_name": "CLIPImageProcessor", "_interpolation": "bicubic", "size": {"height": 224, "width": 224}})";
constexpr const char* kScheduler =
    R"({"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 5.0,
        "num_train_timesteps": 1000, "solver_order": 2})";

// The file of the folder whose name has this beginning and ending; empty where there is none.
fs::path named(const fs::path& folder, std::string_view beginning, std::string_view ending) {
  for (const auto& item : fs::directory_iterator(folder)) {
    const std::string name = item.path().filename().string();
    if (name.starts_with(beginning) && name.ends_with(ending) && item.is_regular_file()) return item.path();
  }
  return {};
}

ComponentDescription network(const std::string& name, const fs::path& folder) {
  const Config config = Config::load(folder / "config.json");
  return {name, config.get<std::string>("_class_name", ""), config.with("_dialect", std::string("original")), folder,
          "original"};
}

bool is_network(const fs::path& folder) {
  return fs::exists(folder / "config.json") &&
         Config::load(folder / "config.json").get<std::string>("_class_name", "") == "WanModel";
}

}  // namespace

std::optional<ModelDescription> describe_wan_folder(const fs::path& folder, RecogniseFile recognise) {
  const fs::path vae = named(folder, "Wan2.", "_VAE.pth");
  const bool experts = is_network(folder / kExperts[0]) && is_network(folder / kExperts[1]);
  if (vae.empty() || (!experts && !is_network(folder))) return std::nullopt;

  ModelDescription model{"pipeline", "", folder, {}};
  if (experts) {
    model.components.push_back(network("transformer", folder / kExperts[0]));
    model.components.push_back(network("transformer_2", folder / kExperts[1]));
  } else {
    model.components.push_back(network("transformer", folder));
  }
  const auto add = [&](const char* name, const fs::path& file) {
    if (file.empty()) return;
    model.components.push_back(recognise(file));
    model.components.back().name = name;
  };
  add("vae", vae);
  add("text_encoder", named(folder, "models_t5_", ".pth"));
  if (fs::is_directory(folder / kTokenizer))
    model.components.push_back({"tokenizer", "T5TokenizerFast", Config(), folder / kTokenizer, "original"});
  const fs::path clip = named(folder, "models_clip_", ".pth");
  add("image_encoder", clip);
  if (!clip.empty())
    model.components.push_back(
        {"image_processor", "CLIPImageProcessor", Config::parse(kImageProcessor, folder.string()), {}, "original"});
  model.components.push_back(
      {"scheduler", "UniPCMultistepScheduler", Config::parse(kScheduler, folder.string()), {}, "original"});

  const auto kind = model.components.front().config.get<std::string>("model_type", "t2v");
  const bool both = kind == "ti2v";  // one network for text and for pictures, seen frames at noise time 0
  model.class_name = kind == "t2v" || both ? "WanPipeline" : "WanImageToVideoPipeline";
  model.index = Config::parse("{}", folder.string()).with("_class_name", model.class_name);
  if (both) model.index = model.index.with("expand_timesteps", true);
  if (experts) model.index = model.index.with("boundary_ratio", kind == "t2v" ? 0.875 : 0.9);
  return model;
}

}  // namespace orrery::models
