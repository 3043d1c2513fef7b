#include <ATen/ATen.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "orrery/error.h"
#include "orrery/weights.h"
#include "weights/dtypes.h"
#include "weights/safetensors_header.h"
#include "weights/sources.h"

namespace orrery {
namespace weights_detail {
namespace {

class SafetensorsSource final : public TensorSource {
 public:
  explicit SafetensorsSource(const std::filesystem::path& path)
      : map_(FileMap::open(path)), header_(parse_safetensors(map_->bytes(), path.string())) {
    for (const auto& [name, entry] : header_.entries)
      infos_[name] = {entry.shape, entry.dtype, static_cast<int64_t>(entry.end - entry.begin)};
  }

  std::string place() const override { return map_->path().string(); }
  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  const std::map<std::string, std::string>& metadata() const override { return header_.metadata; }

  at::Tensor read(const std::string& name) const override {
    const SafetensorsEntry& entry = header_.entries.at(name);
    return tensor_in_map(map_, entry.begin, entry.shape, entry.dtype);
  }

 private:
  std::shared_ptr<const FileMap> map_;
  SafetensorsHeader header_;
  std::map<std::string, TensorInfo> infos_;
};

}  // namespace

at::Tensor tensor_in_map(const std::shared_ptr<const FileMap>& map, uint64_t begin, at::IntArrayRef shape,
                         at::ScalarType dtype) {
  auto* data = const_cast<std::byte*>(map->bytes().data()) + begin;  // the map is private: a write never reaches the file
  const int64_t element = element_bytes(dtype);
  const int64_t bytes = *count_elements(shape, element) * element;
  if (bytes == 0) return at::empty(shape, dtype);
  if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(element) == 0)
    return at::from_blob(
        data, shape, [map](void*) {}, dtype);
  at::Tensor copy = at::empty(shape, dtype);
  std::memcpy(copy.mutable_data_ptr(), data, static_cast<size_t>(bytes));
  return copy;
}

std::shared_ptr<const TensorSource> open_safetensors(const std::filesystem::path& path) {
  return std::make_shared<SafetensorsSource>(path);
}

}  // namespace weights_detail

TensorMap load_safetensors(const std::filesystem::path& path) {
  const auto source = weights_detail::open_safetensors(path);
  TensorMap tensors;
  for (const auto& [name, info] : source->infos()) tensors[name] = source->read(name);
  return tensors;
}

void save_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                      const std::map<std::string, std::string>& metadata) {
  using weights_detail::element_bytes;
  struct Item {
    const std::string* name;
    const at::Tensor* tensor;
  };
  std::vector<Item> items;
  for (const auto& [name, tensor] : tensors) {
    const std::string place = path.string() + ": " + name;
    if (!tensor.defined() || name == "__metadata__")
      throw Error(ErrorKind::kArgument, {.place = place, .what = tensor.defined() ? "is a reserved name" : "is undefined"});
    if (weights_detail::safetensors_name(tensor.scalar_type()).empty())
      throw Error(ErrorKind::kUnsupported, {.place = place, .what = "has a dtype that safetensors cannot hold"});
    items.push_back({&name, &tensor});
  }
  // Widest elements first: every tensor is then aligned in the file, and readers may map it.
  std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
    return element_bytes(a.tensor->scalar_type()) > element_bytes(b.tensor->scalar_type());
  });

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const Item& item : items) {
    const int64_t bytes = item.tensor->numel() * element_bytes(item.tensor->scalar_type());
    header[*item.name] = {{"dtype", weights_detail::safetensors_name(item.tensor->scalar_type())},
                          {"shape", item.tensor->sizes().vec()},
                          {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorKind::kArgument, {.place = path.string(), .what = "cannot hold a name or metadata that is not UTF-8"});
  }
  text.append((8 - text.size() % 8) % 8, ' ');

  weights_detail::AtomicFile file(path);
  char length[8];
  for (size_t i = 0; i < sizeof length; ++i) length[i] = static_cast<char>(text.size() >> (8 * i) & 0xff);
  file.write(length, sizeof length);
  file.write(text);
  for (const Item& item : items) {
    const at::Tensor plain = item.tensor->detach().to(at::kCPU).resolve_conj().resolve_neg().contiguous();
    file.write(plain.const_data_ptr(), static_cast<size_t>(plain.nbytes()));
  }
  file.commit();
}

}  // namespace orrery
