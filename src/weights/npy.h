#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <vector>

#include "weights/file.h"

namespace orrery::weights_detail {

/// What stands at the head of a .npy file.
struct NpyHeader {
  c10::ScalarType dtype = c10::ScalarType::Float;
  bool swapped = false;        ///< big-endian
  bool fortran_order = false;  ///< first axis fastest
  std::vector<int64_t> shape;
  size_t data_begin = 0;
};

/// Reads the header and checks that the data is all there. Throws Error(kWeights, kUnsupported) with `place`.
NpyHeader parse_npy(Bytes file, const std::string& place);

}  // namespace orrery::weights_detail
