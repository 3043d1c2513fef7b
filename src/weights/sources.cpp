#include "weights/sources.h"

#include <ATen/ATen.h>

#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "orrery/error.h"
#include "weights/dtypes.h"
#include "weights/lora.h"
#include "weights/torch_file.h"

namespace orrery::weights_detail {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class MemorySource final : public TensorSource {
 public:
  MemorySource(TensorMap tensors, std::string place) : tensors_(std::move(tensors)), place_(std::move(place)) {
    for (const auto& [name, tensor] : tensors_)
      infos_[name] = {tensor.sizes().vec(), tensor.scalar_type(), static_cast<int64_t>(tensor.nbytes())};
  }
  std::string place() const override { return place_; }
  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  at::Tensor read(const std::string& name) const override { return tensors_.at(name); }

 private:
  TensorMap tensors_;
  std::string place_;
  std::map<std::string, TensorInfo> infos_;
};

class ShardedSource final : public TensorSource {
 public:
  ShardedSource(fs::path index, std::map<std::string, std::shared_ptr<const TensorSource>> shards,
                std::map<std::string, std::string> shard_of)
      : index_(std::move(index)), shards_(std::move(shards)), shard_of_(std::move(shard_of)) {
    for (const auto& [name, shard] : shard_of_) infos_[name] = shards_.at(shard)->infos().at(name);
  }
  std::string place() const override { return index_.string(); }
  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  at::Tensor read(const std::string& name) const override { return shards_.at(shard_of_.at(name))->read(name); }

 private:
  fs::path index_;
  std::map<std::string, std::shared_ptr<const TensorSource>> shards_;
  std::map<std::string, std::string> shard_of_;
  std::map<std::string, TensorInfo> infos_;
};

[[noreturn]] void bad_index(const fs::path& index, std::string what) {
  throw Error(ErrorKind::kWeights, {.place = index.string(), .what = std::move(what), .hint = "download the index again"});
}

std::map<std::string, std::string> read_weight_map(const fs::path& index) {
  std::ifstream file(index, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) bad_index(index, "cannot be read");
  const auto shallow = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > 8) bad_index(index, "is no index of shards");
    return true;
  };
  const Json json = Json::parse(text.str(), shallow, false);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object() || json["weight_map"].empty())
    bad_index(index, "holds no weight_map");
  std::map<std::string, std::string> shard_of;
  for (const auto& [name, shard] : json["weight_map"].items()) {
    if (!shard.is_string()) bad_index(index, "names no file for " + name);
    const fs::path file_name = shard.get<std::string>();
    if (file_name.empty() || file_name != file_name.filename() || file_name == "..")
      bad_index(index, "names a shard outside its folder: " + file_name.string());
    shard_of[name] = file_name.string();
  }
  return shard_of;
}

/// The only file of the folder whose name ends like this and holds one of a kind; throws when there are several.
std::optional<fs::path> only_file(const fs::path& folder, std::string_view ending) {
  std::set<fs::path> found;
  for (const auto& item : fs::directory_iterator(folder))
    if (item.path().filename().string().ends_with(ending) && item.is_regular_file()) found.insert(item.path());
  if (found.size() > 1) {
    std::vector<std::string> names;
    for (const fs::path& path : found) names.push_back(path.filename().string());
    throw Error(ErrorKind::kWeights, {.place = folder.string(),
                                      .what = "holds several files of weights and no index: " + list_names(names),
                                      .hint = "name the one to load"});
  }
  return found.empty() ? std::nullopt : std::optional(*found.begin());
}

}  // namespace

std::shared_ptr<const TensorSource> in_memory(TensorMap tensors, std::string place) {
  return std::make_shared<MemorySource>(std::move(tensors), std::move(place));
}

std::shared_ptr<const TensorSource> open_sharded(const fs::path& index) {
  auto shard_of = read_weight_map(index);
  std::set<std::string> names, absent;
  for (const auto& [tensor, shard] : shard_of) names.insert(shard);
  for (const std::string& name : names)
    if (!fs::exists(index.parent_path() / name)) absent.insert(name);
  if (!absent.empty())
    throw Error(ErrorKind::kWeights, {.place = index.string(),
                                      .what = "lacks " + std::to_string(absent.size()) + " of its " +
                                              std::to_string(names.size()) + " shards: " + list_names(absent),
                                      .hint = "download them into the same folder"});
  std::map<std::string, std::shared_ptr<const TensorSource>> shards;
  for (const std::string& name : names) shards[name] = open_file(index.parent_path() / name);
  for (const auto& [tensor, shard] : shard_of)
    if (!shards[shard]->infos().contains(tensor))
      bad_index(index, "says that " + shard + " holds " + tensor + ", and it does not");
  return std::make_shared<ShardedSource>(index, std::move(shards), std::move(shard_of));
}

fs::path find_weights(const fs::path& folder) {
  constexpr std::array kUsual = {"diffusion_pytorch_model.safetensors.index.json", "model.safetensors.index.json",
                                 "diffusion_pytorch_model.safetensors", "model.safetensors"};
  for (const char* name : kUsual)
    if (fs::exists(folder / name)) return folder / name;
  // A link whose file is gone (a cache that was cleaned) deserves its own words.
  for (const char* name : kUsual)
    if (fs::is_symlink(folder / name))
      throw Error(ErrorKind::kWeights, {.place = (folder / name).string(), .what = "is a link to a file that is gone"});
  constexpr std::array kEndings = {
      ".safetensors.index.json", ".safetensors", ".bin.index.json", ".bin", ".pth", ".pt", ".ckpt", ".jit"};
  for (const char* ending : kEndings)
    if (const auto found = only_file(folder, ending)) return *found;
  throw Error(ErrorKind::kWeights,
              {.place = folder.string(),
               .what = "holds no weights",
               .expected = "diffusion_pytorch_model.safetensors, model.safetensors or another checkpoint"});
}

std::shared_ptr<const TensorSource> open_file(const fs::path& path) {
  if (path.filename().string().ends_with(".index.json")) return open_sharded(path);
  const auto map = FileMap::open(path);
  return looks_like_torch(map->bytes()) ? open_torch(path) : open_safetensors(path);
}

std::shared_ptr<const TensorSource> open_unindexed_shards(const fs::path& folder) {
  static const std::regex shard_name(R"((.+)-(\d{5})-of-(\d{5})\.(?:safetensors|bin))");
  std::map<std::string, std::shared_ptr<const TensorSource>> shards;
  std::set<std::string> wholes;  // what they are shards of, and how many there are
  size_t total = 0;
  for (const auto& item : fs::directory_iterator(folder)) {
    const std::string name = item.path().filename().string();
    if (name.ends_with(".index.json")) return nullptr;
    std::smatch match;
    if (!std::regex_match(name, match, shard_name)) continue;
    wholes.insert(match[1].str() + match[3].str());
    total = std::stoul(match[3]);
    shards[name] = nullptr;
  }
  if (wholes.size() != 1) return nullptr;
  if (shards.size() != total)
    throw Error(ErrorKind::kWeights, {.place = folder.string(),
                                      .what = "does not hold all shards",
                                      .expected = std::to_string(total),
                                      .got = std::to_string(shards.size()),
                                      .hint = "download the others into the same folder"});
  std::map<std::string, std::string> shard_of;
  for (auto& [name, shard] : shards) {
    shard = open_file(folder / name);
    for (const auto& [tensor, info] : shard->infos())
      if (!shard_of.emplace(tensor, name).second) bad_index(folder, "holds " + tensor + " in two shards");
  }
  return std::make_shared<ShardedSource>(folder, std::move(shards), std::move(shard_of));
}

std::shared_ptr<const TensorSource> open_place(const fs::path& path) {
  std::error_code ignored;
  const bool folder = fs::is_directory(path, ignored);
  auto source = folder ? open_halves(path) : nullptr;
  if (!source && folder) source = open_unindexed_shards(path);
  return source ? source : fold_adapters(open_file(folder ? find_weights(path) : path));
}

}  // namespace orrery::weights_detail
