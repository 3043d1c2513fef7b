#include "pipeline/token_parts.h"

#include <filesystem>
#include <optional>
#include <vector>

#include "models/registry.h"
#include "orrery/error.h"

namespace orrery::pipeline {
namespace {

namespace fs = std::filesystem;

constexpr const char* kVideoTokenizer = "vae";
constexpr const char* kTextEncoder = "text_encoder";

std::string role_of(const ComponentDescription& part) {
  for (const models::Entry& entry : models::entries())
    if (entry.class_name == part.class_name) return entry.role;
  return "";
}

fs::path folder_of(const fs::path& model) {
  const fs::path folder = fs::is_directory(model) ? model : model.parent_path();
  return fs::absolute(folder / "").lexically_normal().parent_path();
}

// Folders of these names in the model's folder, beside it, or beside the folder of its organisation.
std::vector<fs::path> places_beside(const fs::path& model, const std::vector<std::string>& names) {
  const fs::path folder = folder_of(model);
  std::vector<fs::path> places;
  for (const std::string& name : names)
    for (const fs::path& parent : {folder, folder.parent_path(), folder.parent_path().parent_path()})
      if (fs::is_directory(parent / name)) places.push_back(parent / name);
  return places;
}

std::optional<ComponentDescription> part_at(const fs::path& path, const std::string& role, const WorkOptions& work) {
  const ModelDescription found = describe_model(path.string(), work);
  const ComponentDescription* part = part_with_role(found, role);
  return part ? std::optional(*part) : std::nullopt;
}

}  // namespace

const ComponentDescription* part_with_role(const ModelDescription& model, const std::string& role) {
  for (const ComponentDescription& part : model.components)
    if (role_of(part) == role) return &part;
  return nullptr;
}

ComponentDescription find_video_tokenizer(const ModelDescription& model, const TokenVideoRules& rules,
                                          const std::string& given, const WorkOptions& work) {
  if (!given.empty()) {
    if (const auto part = part_at(given, kVideoTokenizer, work)) return *part;
    throw Error(ErrorKind::kConfig, {.place = given, .what = "holds no video tokenizer"});
  }
  if (const ComponentDescription* part = part_with_role(model, kVideoTokenizer)) return *part;
  std::vector<fs::path> places = places_beside(model.path, rules.tokenizer_folders);
  for (const char* name : {"vae", "tokenizer"})
    if (const fs::path place = folder_of(model.path) / name; fs::is_directory(place)) places.push_back(place);
  for (const fs::path& place : places)
    if (const auto part = part_at(place, kVideoTokenizer, work)) return *part;
  std::string names;
  for (const std::string& name : rules.tokenizer_folders) names += (names.empty() ? "" : " or ") + name;
  throw Error(ErrorKind::kConfig, {.place = model.path.string(),
                                   .what = "comes without its video tokenizer",
                                   .expected = "a folder " + (names.empty() ? "vae" : names) + " in it or beside it",
                                   .hint = "give --tokenizer"});
}

TextParts find_text_parts(const ModelDescription& model, const TokenVideoRules& rules, const WorkOptions& work) {
  TextParts parts;
  if (const ComponentDescription* encoder = part_with_role(model, kTextEncoder)) parts.encoder = *encoder;
  for (const ComponentDescription& part : model.components)
    if (part.name == "tokenizer" && role_of(part).empty()) parts.tokenizer = part;
  if (parts.encoder || parts.tokenizer) return parts;
  for (const fs::path& place : places_beside(model.path, rules.text_folders)) {
    parts.encoder = part_at(place, kTextEncoder, work);
    if (!parts.encoder) continue;
    parts.tokenizer = ComponentDescription{.name = "tokenizer", .path = place};
    break;
  }
  return parts;
}

std::shared_ptr<const Component> load_part(ComponentDescription part, const LoadOptions& options) {
  part.name = role_of(part);  // a video tokenizer may be listed as "tokenizer", which elsewhere is one of text
  return load_component(part, options);
}

}  // namespace orrery::pipeline
