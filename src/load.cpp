#include "orrery/load.h"

#include <ATen/Context.h>
#include <dlfcn.h>

#include <algorithm>
#include <optional>
#include <set>

#include "cpu_features.h"
#include "guarded.h"
#include "models/registry.h"
#include "ops/cuda_library.h"
#include "orrery/error.h"
#include "orrery/hub.h"
#include "orrery/log.h"
#include "orrery/weights.h"
#include "text_tokenizer_component.h"
#include "weights/lora.h"
#include "weights/sources.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDiffusers = "diffusers";
constexpr const char* kOriginal = "original";
constexpr const char* kTokenizer = "tokenizer";
const std::string kTransformer = "transformer";
constexpr size_t kMaxBundle =
    16;  // more files than any release has beside each other: something else, and slow to look into

const models::Entry* known_class(const std::string& class_name) {
  for (const models::Entry& entry : models::entries())
    if (entry.class_name == class_name) return &entry;
  return nullptr;
}

// What a class does in a pipeline, which is the name a lone component answers to.
std::string role_of(const std::string& class_name) {
  const models::Entry* entry = known_class(class_name);
  return entry ? entry->role : "";
}

// diffusers writes `_class_name`, transformers `architectures`.
std::string class_of(const Config& config) {
  if (const auto name = config.find<std::string>("_class_name")) return *name;
  const auto architectures = config.get<std::vector<std::string>>("architectures", {});
  return architectures.empty() ? "" : architectures.front();
}

// Only configs that name an original repository's module carry `_library`.
ComponentDescription configured(std::string name, const Config& config, const fs::path& path) {
  const std::string dialect = config.has("_library") ? kOriginal : kDiffusers;
  return {std::move(name), class_of(config), config.with("_dialect", dialect), path, dialect};
}

ComponentDescription recognised(const fs::path& path) {
  const Weights weights = Weights::open(path);
  for (const models::Describer describe : models::describers())
    if (const auto config = describe(weights)) {
      const std::string class_name = class_of(*config), dialect = config->get<std::string>("_dialect", kOriginal);
      // Some original repositories say beside the weights what their shapes cannot, but not whose configuration it is.
      const bool beside = config->get<bool>("_config_beside", false) && fs::exists(path / "config.json");
      const Config whole = beside ? Config::load(path / "config.json").with("_class_name", class_name) : *config;
      return {role_of(class_name), class_name, whole.with("_dialect", dialect), path, dialect};
    }
  return {"", "", Config(), path, kOriginal};
}

// A text tokenizer has files of its own kind and no weights; its class is named beside its special tokens.
ComponentDescription text_tokenizer(const fs::path& folder, const std::string& name) {
  const fs::path file = folder / "tokenizer_config.json";
  const Config config = fs::exists(file) ? Config::load(file) : Config();
  return {name, config.get<std::string>("tokenizer_class", ""), config, folder, kDiffusers};
}

ComponentDescription described_part(const fs::path& folder, const std::string& name, const std::string& class_name) {
  ComponentDescription part{name, "", Config(), {}, kDiffusers};
  if (fs::exists(folder / "config.json"))
    part = configured(name, Config::load(folder / "config.json"), folder);
  else if (is_text_tokenizer(folder))
    part = text_tokenizer(folder, name);
  else if (fs::exists(folder / "scheduler_config.json"))
    part = configured(name, Config::load(folder / "scheduler_config.json"), {});
  else if (fs::exists(folder / "preprocessor_config.json"))
    part = configured(name, Config::load(folder / "preprocessor_config.json"), {});
  else if (known_class(class_name))  // weights of an original layout, whose configuration is read off the tensors
    part = recognised(folder);
  part.name = name;
  if (!class_name.empty()) part.class_name = class_name;  // the pipeline's word counts, as in diffusers
  return part;
}

ModelDescription describe_pipeline(const fs::path& folder) {
  const Config index = Config::load(folder / "model_index.json");
  ModelDescription model{"pipeline", index.get<std::string>("_class_name", ""), folder, {}, index};
  for (const std::string& name : index.keys()) {
    // Parts that a pipeline can do without stand there as [null, null] and have no folder.
    if (name.starts_with('_') || !index.is_array(name) || !fs::is_directory(folder / name)) continue;
    const auto library_and_class = index.require<std::vector<std::string>>(name);
    model.components.push_back(
        described_part(folder / name, name, library_and_class.empty() ? "" : library_and_class.back()));
  }
  if (model.components.empty())
    throw Error(ErrorKind::kConfig, {.place = (folder / "model_index.json").string(),
                                     .what = "names no part that lies in this folder",
                                     .hint = "is the download complete?"});
  return model;
}

// The original files of a folder and of the folders right under it, in the order of their names.
std::vector<fs::path> checkpoint_files(const fs::path& folder) {
  std::vector<fs::path> files;
  const auto gather = [&](const fs::path& place) {
    for (const auto& item : fs::directory_iterator(place)) {
      const auto kind = item.path().extension();
      if (item.is_regular_file() && (kind == ".safetensors" || kind == ".pt" || kind == ".pth"))
        files.push_back(item.path());
    }
  };
  gather(folder);
  for (const auto& item : fs::directory_iterator(folder))
    if (item.is_directory()) gather(item.path());
  std::sort(files.begin(), files.end());
  return files;
}

// Several original files, each a part of its own: a pipeline without model_index.json. Nothing where fewer than two parts
// are recognised, or two files are the same part (halves, shards).
std::optional<ModelDescription> described_bundle(const fs::path& folder) {
  ModelDescription model{"pipeline", "", folder, {}};
  std::set<std::string> names, classes;
  const auto files = checkpoint_files(folder);
  if (files.size() < 2 || files.size() > kMaxBundle) return {};
  for (const fs::path& file : files) {
    ComponentDescription part = recognised(file);
    if (part.class_name.empty()) continue;
    if (!names.insert(part.name).second) return {};
    classes.insert(part.class_name);
    model.components.push_back(std::move(part));
  }
  if (model.components.size() < 2) return {};
  for (const models::BundleEntry& bundle : models::bundle_entries())
    if (std::all_of(bundle.classes.begin(), bundle.classes.end(), [&](const char* name) { return classes.contains(name); }))
      model.class_name = bundle.pipeline;
  return model;
}

ModelDescription describe_component(const fs::path& folder) {
  if (fs::exists(folder / "config.json")) {
    const Config config = Config::load(folder / "config.json");
    // Some original repositories hold a config.json that says nothing of the network, or that names an architecture of its
    // publisher's own beside tensors that speak for themselves.
    const std::string class_name = class_of(config);
    if (!class_name.empty() && !known_class(class_name) && !config.has("_class_name") && !checkpoint_files(folder).empty())
      if (ComponentDescription part = recognised(folder); !part.class_name.empty())
        return {"component", "", folder, {std::move(part)}};
    if (!class_name.empty()) return {"component", "", folder, {configured(role_of(class_name), config, folder)}};
  }
  if (is_text_tokenizer(folder)) return {"component", "", folder, {text_tokenizer(folder, kTokenizer)}};
  if (auto bundle = described_bundle(folder)) return *std::move(bundle);
  return {"component", "", folder, {recognised(folder)}};
}

ModelDescription describe_file(const fs::path& file) {
  const std::string name = file.filename().string();
  // The weights of a diffusers folder, named directly: the config beside them is theirs.
  if ((name.starts_with("diffusion_pytorch_model") || name == "model.safetensors") &&
      fs::exists(file.parent_path() / "config.json")) {
    const Config config = Config::load(file.parent_path() / "config.json");
    if (!class_of(config).empty()) return {"file", "", file, {configured(role_of(class_of(config)), config, file)}};
  }
  return {"file", "", file, {recognised(file)}};
}

// The core links nothing of CUDA. LibTorch's part of it registers itself when it is loaded, which has to be before LibTorch
// is first asked for CUDA; so it is loaded when a GPU is first asked for.
void require_cuda(at::Device device) {
  static const std::string problem = [] {
    const bool loaded = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr;
    return std::string(loaded ? "" : dlerror());
  }();
  if (problem.empty() && at::hasCUDA()) {
    ops::load_cuda_graphs();
    return ops::require_capability(ops::cuda_capability(device.has_index() ? device.index() : 0), device.str());
  }
  const std::string why =
      problem.empty() ? "LibTorch has CUDA and finds no GPU: look at nvidia-smi, the driver and "
                        "CUDA_VISIBLE_DEVICES"
                      : "this LibTorch has no CUDA (" + problem + "): build with one that has, -DORRERY_LIBTORCH=<folder>";
  throw Error(ErrorKind::kDevice, {.place = "device",
                                   .what = "no CUDA device can be used here",
                                   .expected = "cpu",
                                   .got = device.str(),
                                   .hint = "use --device cpu; or, where there is an NVIDIA GPU: " + why});
}

void check_arithmetic(const LoadOptions& options) {
  if (options.device.is_cuda()) require_cuda(options.device);
  if (options.device.is_cpu() && !cpu_computes_fast_in(options.dtype))
    throw Error(
        ErrorKind::kUnsupported,
        {.place = std::string("dtype ") + (options.dtype == at::kHalf ? "float16" : "bfloat16"),
         .what = "this processor has no fast arithmetic for it",
         .hint = "use float32; weights stored in half precision are read as they are and widened where they are used"});
}

std::string list_of(const std::vector<std::string>& names) {
  constexpr size_t kListed = 5;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kListed); ++i) text += (i ? ", " : "") + names[i];
  return names.size() > kListed ? text + " and " + std::to_string(names.size() - kListed) + " more" : text;
}

Weights open_weights(const ComponentDescription& part, const models::Entry& entry, const LoadOptions& options) {
  auto source = weights_detail::open_place(part.path);
  if (!options.loras.empty() && std::string_view(entry.role) == kTransformer) {
    using Layouts = std::vector<std::map<std::string, std::string>>;
    const Layouts layouts = entry.layouts ? entry.layouts(part.config) : Layouts{};
    source = weights_detail::merge_loras(std::move(source), options.loras, layouts, part.name);
  }
  return Weights(std::move(source));
}

// A LoRA that a lone component would not take is a mistake of the caller.
void check_loras(const std::vector<LoraFile>& loras, const ComponentDescription& part) {
  for (const LoraFile& lora : loras) {
    if (role_of(part.class_name) == kTransformer && (lora.component.empty() || lora.component == part.name)) continue;
    throw Error(ErrorKind::kArgument, {.place = lora.path.string(),
                                       .what = "is a LoRA, and only a denoising network takes one",
                                       .expected = lora.component.empty() ? kTransformer : lora.component,
                                       .got = part.name + " (" + part.class_name + ")",
                                       .hint = "leave it out"});
  }
}

const ComponentDescription& find_component(const ModelDescription& model, const std::string& name) {
  std::string there;
  for (const ComponentDescription& part : model.components) {
    if (part.name == name) return part;
    const std::string what = part.name.empty() ? "something unknown" : part.name;
    there += (there.empty() ? "" : ", ") + what + (part.class_name.empty() ? "" : " (" + part.class_name + ")");
  }
  const ComponentDescription& first = model.components.front();
  if (model.kind != "pipeline" && first.name.empty()) {
    if (!first.class_name.empty()) models::entry_of(first.class_name, model.path.string());
    throw Error(ErrorKind::kWeights,
                {.place = model.path.string(),
                 .what = "the tensors are those of no model that orrery knows",
                 .expected = "a " + name,
                 .hint = "`orrery inspect` lists them; a config.json with `_class_name` beside them decides"});
  }
  throw Error(ErrorKind::kArgument,
              {.place = model.path.string(), .what = "holds no such component", .expected = name, .got = there});
}

}  // namespace

ModelDescription describe_model(const std::string& path, const WorkOptions& work) {
  return guarded(path, [&]() -> ModelDescription {
    const fs::path place = resolve(path, work);
    if (!fs::is_directory(place)) return describe_file(place);
    if (fs::exists(place / "model_index.json")) return describe_pipeline(place);
    for (const models::FolderDescriber describe : models::folder_describers())
      if (auto model = describe(place, recognised)) return *std::move(model);
    return describe_component(place);
  });
}

std::unique_ptr<Component> load_component(const ComponentDescription& description, const LoadOptions& options) {
  const std::string place = description.path.string();
  return guarded(place, [&]() -> std::unique_ptr<Component> {
    check_arithmetic(options);
    if (description.name.starts_with(kTokenizer)) return load_text_tokenizer(description.path, description.class_name);
    const models::Entry& entry = models::entry_of(description.class_name, place);
    const Weights weights = open_weights(description, entry, options).to(options.dtype, options.device);
    const Config config = models::in_form(description.config, options.weights, options.attention);
    std::unique_ptr<Component> component = entry.build(config, weights);
    component->device_ = options.device;
    models::check_form(config, description.class_name);
    const auto unread = config.unread();
    if (std::find(unread.begin(), unread.end(), "_stream_from") != unread.end())
      throw Error(ErrorKind::kUnsupported,
                  {.place = description.class_name, .what = "has no blocks to stream", .hint = "leave --max-memory away"});
    if (const auto unused = weights.unused(); !unused.empty())
      log(LogLevel::kWarning, place + ": " + std::to_string(unused.size()) + " tensors are not those of " +
                                  description.class_name + " and were left out: " + list_of(unused));
    if (!unread.empty()) log(LogLevel::kInfo, config.place() + ": keys that orrery does not read: " + list_of(unread));
    return component;
  });
}

std::unique_ptr<Component> load_component(const std::string& path, const std::string& name, const LoadOptions& options) {
  const ModelDescription model = describe_model(path, options.work);
  const ComponentDescription& part = find_component(model, name);
  check_loras(options.loras, part);
  return load_component(part, options);
}

}  // namespace orrery
