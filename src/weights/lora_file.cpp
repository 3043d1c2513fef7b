#include "weights/lora_file.h"

#include <ATen/ATen.h>

#include <array>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>

#include "orrery/error.h"
#include "weights/sources.h"

namespace orrery::weights_detail {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

[[noreturn]] void refuse(ErrorKind kind, const std::string& place, const std::string& key, std::string what,
                         std::string hint) {
  throw Error(kind, {.place = place + ": " + key, .what = std::move(what), .hint = std::move(hint)});
}

// The member of an entry that a key fills, and the layer it belongs to.
struct Part {
  std::string LoraEntry::*member;
  std::string module;
};

Part part_of(const std::string& key, const std::string& place) {
  // peft puts the adapter's name in the middle: "….lora_A.default.weight".
  static const std::vector<std::pair<std::regex, std::string LoraEntry::*>> kParts = {
      {std::regex(R"((.+)\.lora_(?:A|down)(?:\.[^.]+)?\.weight)"), &LoraEntry::down},
      {std::regex(R"((.+)\.lora_(?:B|up)(?:\.[^.]+)?\.weight)"), &LoraEntry::up},
      {std::regex(R"((.+)\.lora\.down\.weight)"), &LoraEntry::down},
      {std::regex(R"((.+)\.lora\.up\.weight)"), &LoraEntry::up},
      {std::regex(R"((.+)\.(?:lora_B(?:\.[^.]+)?\.bias|diff_b))"), &LoraEntry::bias},
      {std::regex(R"((.+)\.diff)"), &LoraEntry::diff},
      {std::regex(R"((.+)\.(?:lora_magnitude_vector(?:\.[^.]+)?(?:\.weight)?|dora_scale))"), &LoraEntry::magnitude},
      {std::regex(R"((.+)\.alpha)"), &LoraEntry::alpha}};
  std::smatch match;
  for (const auto& [pattern, member] : kParts)
    if (std::regex_match(key, match, pattern)) return {member, match[1]};
  for (const char* other : {"hada_", "lokr_", "lora_mid", "oft_", "ia3_"})
    if (key.find(other) != std::string::npos)
      refuse(ErrorKind::kUnsupported, place, key, "is a kind of adapter that cannot be merged",
             "merge it with the tool that made it, or use a plain LoRA");
  refuse(ErrorKind::kWeights, place, key, "is no part of a LoRA",
         "is this a LoRA file? a whole network is given with --model");
}

Json parsed(const std::string& text) {
  const auto shallow = [](int depth, Json::parse_event_t, Json&) { return depth <= 8; };
  Json json = Json::parse(text, shallow, false);
  return json.is_object() ? json : Json::object();
}

// `prefix` is "" in adapter_config.json and "transformer." in what diffusers writes into a file's metadata.
LoraContents::Settings settings_in(const Json& json, const std::string& prefix) {
  LoraContents::Settings settings;
  const auto number = [&](const std::string& key) {
    const auto found = json.find(prefix + key);
    return found != json.end() && found->is_number() ? std::optional(found->get<double>()) : std::nullopt;
  };
  settings.alpha = number("lora_alpha");
  if (const auto found = json.find(prefix + "use_rslora"); found != json.end() && found->is_boolean())
    settings.rank_stabilised = found->get<bool>();
  if (const auto found = json.find(prefix + "alpha_pattern"); found != json.end() && found->is_object())
    for (const auto& [module, alpha] : found->items())
      if (alpha.is_number()) settings.alpha_pattern[module] = alpha.get<double>();
  return settings;
}

LoraContents::Settings settings_of(const fs::path& path, const TensorSource& source) {
  const fs::path beside = (fs::is_directory(path) ? path : path.parent_path()) / "adapter_config.json";
  if (fs::exists(beside)) {
    std::ifstream file(beside, std::ios::binary);
    return settings_in(parsed({std::istreambuf_iterator<char>(file), {}}), "");
  }
  const auto found = source.metadata().find("lora_adapter_metadata");
  return found == source.metadata().end() ? LoraContents::Settings{} : settings_in(parsed(found->second), "transformer.");
}

}  // namespace

LoraContents open_lora(const fs::path& path) {
  LoraContents lora;
  lora.source = open_place(path);
  lora.settings = settings_of(path, *lora.source);
  const std::string place = lora.source->place();
  std::map<std::string, LoraEntry> entries;
  for (const auto& [key, info] : lora.source->infos()) {
    const Part part = part_of(key, place);
    LoraEntry& entry = entries[part.module];
    entry.module = part.module;
    if (entry.first.empty()) entry.first = key;
    entry.*part.member = key;
  }
  for (auto& [module, entry] : entries) {
    if (entry.down.empty() != entry.up.empty())
      refuse(ErrorKind::kWeights, place, entry.down.empty() ? entry.up : entry.down, "lacks its counterpart",
             "the file is incomplete; download it again");
    if (!entry.magnitude.empty() && entry.down.empty())
      refuse(ErrorKind::kWeights, place, entry.magnitude, "lacks its product", "the file is incomplete; download it again");
    if (!entry.down.empty()) {
      const auto &down = lora.source->infos().at(entry.down).shape, &up = lora.source->infos().at(entry.up).shape;
      if (down.size() < 2 || up.size() < 2 || down[0] != up[1] || down[0] < 1)
        refuse(ErrorKind::kWeights, place, entry.down, "does not fit its counterpart", "the file is damaged");
    }
    lora.entries.push_back(std::move(entry));
  }
  if (lora.entries.empty())
    throw Error(ErrorKind::kWeights, {.place = place, .what = "holds no tensors", .expected = "a LoRA"});
  return lora;
}

double LoraContents::scale_of(const LoraEntry& entry) const {
  if (entry.down.empty()) return 1;
  const auto rank = static_cast<double>(source->infos().at(entry.down).shape.at(0));
  std::optional<double> alpha = settings.alpha;
  for (const auto& [module, value] : settings.alpha_pattern)
    if (entry.module == module || entry.module.ends_with("." + module)) alpha = value;
  if (!entry.alpha.empty()) {
    const at::Tensor stored = source->read(entry.alpha);
    if (stored.numel() != 1)
      refuse(ErrorKind::kWeights, source->place(), entry.alpha, "is not one number", "the file is damaged");
    alpha = stored.to(at::kDouble).item<double>();
  }
  if (!alpha) return 1;
  return *alpha / (settings.rank_stabilised && entry.alpha.empty() ? std::sqrt(rank) : rank);
}

}  // namespace orrery::weights_detail
