#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orrery/component.h"
#include "orrery/config.h"
#include "orrery/diffusion.h"
#include "orrery/load.h"
#include "orrery/weights.h"
#include "orrery/world.h"

namespace orrery::models {

/// Builds a component from its configuration and weights. `config` may hold "_dialect": "original".
using Builder = std::unique_ptr<Component> (*)(const Config& config, const Weights& weights);

/// One class that checkpoints name.
struct Entry {
  const char* class_name;  ///< as in config.json or model_index.json
  const char* role;        ///< "vae", "transformer", "text_encoder", "image_encoder", "controlnet", "dynamics"
  Builder build;
  /// The names by which other tools know the tensors (diffusers name → original name), one map a layout; may be null.
  std::vector<std::map<std::string, std::string>> (*layouts)(const Config& config) = nullptr;
};

/// One pipeline class that model_index.json names, with how it conditions, preconditions and guides.
struct PipelineEntry {
  const char* class_name;
  std::unique_ptr<DiffusionRecipe> (*build)(const DiffusionParts& parts);
  Config (*scheduler)(const Config& stored) = nullptr;  ///< where the class itself decides some of the scheduler's numbers
};

/// One pipeline class that is an interactive world.
struct WorldEntry {
  const char* class_name;
  std::unique_ptr<World> (*build)(const ModelDescription& model, const LoadOptions& options);
  ActionSpace (*action_space)(const ModelDescription& model);  ///< without loading weights
  /// Frames that its networks look at together, their height and width, by which memory is predicted; null: not told.
  std::vector<int64_t> (*clip)(const ModelDescription& model) = nullptr;
};

/// A folder of original files without model_index.json: the pipeline that these component classes make together.
struct BundleEntry {
  const char* pipeline;
  std::vector<const char*> classes;
};

/// Recognises a checkpoint without a config by its tensors; returns its config with `_class_name`, or nothing.
/// The weights are as in the file, common wrappers ("module.", "net.", "model.") already stripped.
using Describer = std::optional<Config> (*)(const Weights& weights);

/// Recognises one file by its tensors, whatever its family.
using RecogniseFile = ComponentDescription (*)(const std::filesystem::path& file);
/// Recognises a folder in the layout of an original repository, and says which part lies where; nothing where it is
/// another's.
using FolderDescriber = std::optional<ModelDescription> (*)(const std::filesystem::path& folder, RecogniseFile recognise);
/// The folder describers of every family.
const std::vector<FolderDescriber>& folder_describers();

/// The whole table: every class orrery can build.
const std::vector<Entry>& entries();
/// Every pipeline class orrery can run.
const std::vector<PipelineEntry>& pipeline_entries();
/// The entry of a pipeline class; throws Error(kUnsupported) listing the known ones.
const PipelineEntry& pipeline_entry_of(const std::string& class_name, const std::string& place);
/// Every interactive world orrery can run.
const std::vector<WorldEntry>& world_entries();
/// The entry of a world's class; throws Error(kUnsupported) listing the known ones.
const WorldEntry& world_entry_of(const std::string& class_name, const std::string& place);
/// Every pipeline that is recognised by its files.
const std::vector<BundleEntry>& bundle_entries();
/// The describers of every family, most specific first.
const std::vector<Describer>& describers();
/// The config with which a builder keeps matrices in this form in memory and looks in that form of attention, and a look at
/// whether it did: throws Error(kUnsupported) where what was built from such a config has neither but the usual one.
Config in_form(const Config& config, WeightForm weights, AttentionForm attention = AttentionForm::kExact);
void check_form(const Config& config, const std::string& class_name);
/// The entry of a class; throws Error(kUnsupported) listing the known ones.
const Entry& entry_of(const std::string& class_name, const std::string& place);

/// The numbers that a model was released with, and how it is sampled.
struct Preset {
  const char* name;  ///< of the release; of diffusers' way, the pipeline's class
  const char* form;  ///< DiffusionRecipe::form() of the pipelines it is for
  Compat compat;     ///< never kAsPublished
  GenerationDefaults numbers;
  const char* scheduler = "";  ///< scheduler_config.json; empty: the checkpoint's own
};

/// Every preset. Of one form and way, the first is what a checkpoint runs with that is not named.
const std::vector<Preset>& presets();
/// The preset of that name, or of this form and way where the name is empty. Throws Error(kArgument) on an unknown name or
/// one of another form, listing what there is.
const Preset& preset_of(const std::string& form, Compat compat, const std::string& name);

}  // namespace orrery::models
