#include <cstdlib>

#include "orrery/error.h"
#include "weights/dtypes.h"
#include "weights/npy.h"
#include "weights/zip.h"

namespace {

using namespace orrery::weights_detail;

void read_array(Bytes file) {
  const NpyHeader header = parse_npy(file, "input");
  const auto elements = count_elements(header.shape, element_bytes(header.dtype));
  if (!elements || header.data_begin > file.size() ||
      static_cast<uint64_t>(*elements * element_bytes(header.dtype)) > file.size() - header.data_begin)
    std::abort();
}

}  // namespace

// A .npy file, or the members of an .npz file: either an Error, or data that is all there.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Bytes file(reinterpret_cast<const std::byte*>(data), size);
  try {
    if (!looks_like_zip(file)) {
      read_array(file);
      return 0;
    }
    for (const auto& [name, extent] : parse_zip(file, "input")) {
      if (extent.begin > size || extent.stored > size - extent.begin) std::abort();
      constexpr uint64_t kSmall = 1 << 20;
      if (extent.size > kSmall) continue;
      const std::string text = member_text(file, extent, "input");
      read_array({reinterpret_cast<const std::byte*>(text.data()), text.size()});
    }
  } catch (const orrery::Error&) {
  }
  return 0;
}
