#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "weights/dtypes.h"
#include "weights/file.h"

namespace orrery::weights_detail {

/// One tensor's place in a safetensors file.
struct SafetensorsEntry {
  c10::ScalarType dtype = c10::ScalarType::Float;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  ///< bytes from the start of the file
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
};

/// Reads and checks the header against the whole file: its length, each dtype, shape and offset pair, that no name comes
/// twice, and that the tensors fill the file without overlap or hole. Throws Error(kWeights) with `place`. Source: the
/// format as documented at github.com/huggingface/safetensors.
SafetensorsHeader parse_safetensors(Bytes file, const std::string& place);

}  // namespace orrery::weights_detail
