#include "hub/listing.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "orrery/error.h"

namespace orrery::hub_detail {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::array<std::string_view, 5> kOtherWeights = {".bin", ".pt", ".pth", ".ckpt", ".jit"};
constexpr std::array<std::string_view, 4> kSettings = {".json", ".txt", ".model", ".jinja"};

template <typename Endings>
bool ends_with_any(std::string_view path, const Endings& endings) {
  return std::any_of(endings.begin(), endings.end(), [&](std::string_view ending) { return path.ends_with(ending); });
}

bool is_safe_path(const std::string& path) {
  if (path.empty() || path.find('\\') != std::string::npos || path.find('\0') != std::string::npos) return false;
  for (const fs::path& part : fs::path(path))
    if (part == ".." || part == "." || part == "/" || part.empty()) return false;
  return true;
}

bool is_hash(const std::string& text) {
  const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return (text.size() == 40 || text.size() == 64) && std::all_of(text.begin(), text.end(), is_hex);
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string text_of(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

/// "model.fp16.safetensors" and "model.fp16-00001-of-00002.safetensors" are variants of "model.safetensors".
bool is_variant(const std::string& path) {
  for (const char* variant : {".fp16", ".bf16", ".non_ema", ".fp8"})
    for (const char* after : {".", "-"})
      if (path.find(std::string(variant) + after) != std::string::npos) return true;
  return false;
}

bool has_weights(const fs::path& folder) {
  for (const auto& item : fs::directory_iterator(folder)) {
    const std::string name = item.path().filename().string();
    if ((name.ends_with(".safetensors") || ends_with_any(name, kOtherWeights)) && fs::exists(item.path())) return true;
  }
  return false;
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool has_all_shards(const fs::path& folder) {
  for (const auto& item : fs::directory_iterator(folder)) {
    if (!item.path().filename().string().ends_with(".index.json") || !fs::exists(item.path())) continue;
    const Json index = Json::parse(read_text(item.path()), nullptr, false);
    if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) continue;
    for (const auto& [tensor, shard] : index["weight_map"].items())
      if (!shard.is_string() || !fs::exists(folder / shard.get<std::string>())) return false;
  }
  return true;
}

}  // namespace

Listing parse_listing(std::string_view text, const std::string& place) {
  const auto malformed = [&](const char* what) {
    throw Error(ErrorKind::kDevice, {.place = place, .what = what, .hint = "is HF_ENDPOINT a model hub?"});
  };
  const Json json = Json::parse(text.begin(), text.end(), nullptr, false);
  if (!json.is_object() || !json.contains("siblings") || !json["siblings"].is_array())
    malformed("the hub's answer is no list of files");
  Listing listing{.commit = text_of(json, "sha")};
  if (!is_hash(listing.commit)) malformed("the hub's answer names no commit");
  for (const Json& item : json["siblings"]) {
    if (!item.is_object()) malformed("the hub's answer is no list of files");
    RemoteFile file{.path = text_of(item, "rfilename"), .blob = text_of(item, "blobId")};
    if (!is_safe_path(file.path)) malformed("the hub's answer names a file outside the repository");
    if (item.contains("size") && item["size"].is_number_unsigned()) file.size = item["size"].get<int64_t>();
    if (item.contains("lfs") && item["lfs"].is_object()) {
      file.blob = text_of(item["lfs"], "sha256");
      file.sha256 = true;
      if (item["lfs"].contains("size") && item["lfs"]["size"].is_number_unsigned())
        file.size = item["lfs"]["size"].get<int64_t>();
    }
    if (!is_hash(file.blob)) malformed("the hub's answer gives a file no hash");
    listing.files.push_back(std::move(file));
  }
  return listing;
}

std::vector<RemoteFile> choose_files(const Listing& listing, const std::string& inside,
                                     const std::vector<std::string>& parts, const FileFilter& filter) {
  const auto within = [&](const std::string& path) {
    return inside.empty() || path == inside || path.starts_with(inside + "/");
  };
  const auto is_part = [&](const std::string& path) {
    const std::string top = path.substr(0, path.find('/'));
    return parts.empty() || std::find(parts.begin(), parts.end(), top) != parts.end() ||
           (path.find('/') == std::string::npos && ends_with_any(path, kSettings));
  };
  // Which kinds of weights each folder offers.
  std::set<std::string> with_safetensors, with_plain;
  for (const RemoteFile& file : listing.files) {
    if (!file.path.ends_with(".safetensors")) continue;
    with_safetensors.insert(folder_of(file.path));
    if (!is_variant(file.path)) with_plain.insert(folder_of(file.path));
  }
  std::vector<RemoteFile> chosen;
  for (const RemoteFile& file : listing.files) {
    const std::string folder = folder_of(file.path);
    bool wanted;
    if (filter) {
      wanted = within(file.path) && filter(file.path);
    } else if (file.path == inside) {
      wanted = true;
    } else if (!within(file.path) || !(inside.empty() ? is_part(file.path) : true)) {
      wanted = false;
    } else if (file.path.ends_with(".bin.index.json")) {
      wanted = !with_safetensors.contains(folder);
    } else if (file.path.ends_with(".safetensors") || file.path.ends_with(".safetensors.index.json")) {
      wanted = !is_variant(file.path) || !with_plain.contains(folder);
    } else if (ends_with_any(file.path, kOtherWeights)) {
      wanted = !with_safetensors.contains(folder);
    } else {
      wanted = ends_with_any(file.path, kSettings);
    }
    if (wanted) chosen.push_back(file);
  }
  return chosen;
}

std::vector<std::string> parts_of_pipeline(std::string_view model_index) {
  const Json json = Json::parse(model_index.begin(), model_index.end(), nullptr, false);
  std::vector<std::string> parts;
  if (!json.is_object()) return parts;
  for (const auto& [name, value] : json.items())
    if (!name.starts_with('_') && value.is_array() && value.size() == 2 && value[0].is_string() && is_safe_path(name))
      parts.push_back(name);
  return parts;
}

bool is_complete(const fs::path& folder) {
  if (!fs::is_directory(folder)) return false;
  if (!fs::exists(folder / "model_index.json")) return has_weights(folder) && has_all_shards(folder);
  for (const std::string& part : parts_of_pipeline(read_text(folder / "model_index.json"))) {
    if (!fs::is_directory(folder / part) || fs::is_empty(folder / part)) return false;
    // A part that a model is built of has a config.json; tokenizers and schedulers have no weights.
    if (fs::exists(folder / part / "config.json") && !(has_weights(folder / part) && has_all_shards(folder / part)))
      return false;
  }
  return true;
}

}  // namespace orrery::hub_detail
