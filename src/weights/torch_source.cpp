#include <ATen/ATen.h>

#include "orrery/error.h"
#include "orrery/log.h"
#include "weights/dtypes.h"
#include "weights/sources.h"
#include "weights/torch_file.h"

namespace orrery::weights_detail {
namespace {

class TorchSource final : public TensorSource {
 public:
  explicit TorchSource(const std::filesystem::path& path) : map_(FileMap::open(path)) {
    std::vector<std::string> skipped;
    tensors_ = parse_torch_file(map_->bytes(), path.string(), skipped);
    for (const auto& [name, tensor] : tensors_)
      infos_[name] = {tensor.shape, tensor.dtype,
                      *count_elements(tensor.shape, element_bytes(tensor.dtype)) * element_bytes(tensor.dtype)};
    if (!skipped.empty())
      log(LogLevel::kDebug, path.string() + ": left out what only training needs: " + list_names(skipped));
  }

  std::string place() const override { return map_->path().string(); }
  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }

  at::Tensor read(const std::string& name) const override {
    const StoredTensor& tensor = tensors_.at(name);
    const int64_t element = element_bytes(tensor.dtype);
    if (infos_.at(name).bytes == 0) return at::empty(tensor.shape, tensor.dtype);
    // The part of the storage that this tensor reaches: a shared storage may be much larger.
    int64_t reach = 1;
    for (size_t i = 0; i < tensor.shape.size(); ++i) reach += (tensor.shape[i] - 1) * tensor.strides[i];
    at::Tensor flat;
    if (tensor.storage.deflated) {
      at::Tensor whole = at::empty({static_cast<int64_t>(tensor.storage.size)}, at::kByte);
      inflate_into(map_->bytes(), tensor.storage, static_cast<std::byte*>(whole.mutable_data_ptr()), place() + ": " + name);
      flat = whole.narrow(0, 0, whole.numel() / element * element).view(tensor.dtype).narrow(0, tensor.offset, reach);
    } else {
      const auto begin = tensor.storage.begin + static_cast<uint64_t>(tensor.offset * element);
      flat = tensor_in_map(map_, begin, {reach}, tensor.dtype);
    }
    return flat.as_strided(tensor.shape, tensor.strides, flat.storage_offset());
  }

 private:
  std::shared_ptr<const FileMap> map_;
  StoredTensors tensors_;
  std::map<std::string, TensorInfo> infos_;
};

}  // namespace

std::shared_ptr<const TensorSource> open_torch(const std::filesystem::path& path) {
  return std::make_shared<TorchSource>(path);
}

}  // namespace orrery::weights_detail
