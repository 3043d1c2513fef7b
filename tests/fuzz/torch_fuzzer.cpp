#include <cstdlib>
#include <vector>

#include "orrery/error.h"
#include "weights/torch_file.h"
#include "weights/wrappers.h"

// Whatever the bytes, either an Error or tensors that lie within them.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace orrery::weights_detail;
  const Bytes file(reinterpret_cast<const std::byte*>(data), size);
  try {
    if (looks_like_torch(file)) {
      std::vector<std::string> skipped, names;
      for (const auto& [name, tensor] : parse_torch_file(file, "input", skipped)) {
        names.push_back(name);
        const Extent& storage = tensor.storage;
        if (storage.begin > size || storage.stored > size - storage.begin) std::abort();
        const auto count = count_elements(tensor.shape, element_bytes(tensor.dtype));
        if (!count || tensor.strides.size() != tensor.shape.size()) std::abort();
        if (*count == 0) continue;
        int64_t last = tensor.offset;
        for (size_t i = 0; i < tensor.shape.size(); ++i) last += (tensor.shape[i] - 1) * tensor.strides[i];
        if (last < 0 || static_cast<uint64_t>(last) >= storage.size / static_cast<uint64_t>(element_bytes(tensor.dtype)))
          std::abort();
        constexpr uint64_t kSmall = 1 << 20;
        if (!storage.deflated || storage.size > kSmall) continue;
        std::vector<std::byte> content(storage.size);
        inflate_into(file, storage, content.data(), "input");
      }
      find_wrappers(names);
    }
    Pickle::parse(file, "input");
  } catch (const orrery::Error&) {
  }
  return 0;
}
