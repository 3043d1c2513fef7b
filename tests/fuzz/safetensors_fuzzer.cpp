#include <cstdlib>

#include "orrery/error.h"
#include "weights/safetensors_header.h"

// Whatever the bytes, either an Error or tensors that lie within them.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace orrery::weights_detail;
  try {
    const SafetensorsHeader header = parse_safetensors({reinterpret_cast<const std::byte*>(data), size}, "input");
    for (const auto& [name, entry] : header.entries) {
      const auto elements = count_elements(entry.shape, element_bytes(entry.dtype));
      if (entry.begin > entry.end || entry.end > size || !elements ||
          entry.end - entry.begin != static_cast<uint64_t>(*elements * element_bytes(entry.dtype)))
        std::abort();
    }
  } catch (const orrery::Error&) {
  }
  return 0;
}
