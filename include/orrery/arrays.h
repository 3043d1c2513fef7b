#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

#include "orrery/export.h"
#include "orrery/weights.h"

namespace orrery {

/// Reads a NumPy .npy file: numbers or booleans of any size, either byte order and memory order. The result has the array's
/// shape and dtype and is contiguous; where the file allows it is a view of a memory map. Throws Error(kWeights) on damage,
/// and Error(kUnsupported) for strings, records and Python objects (which are never loaded, since that would run code).
/// Source: numpy/lib/format.py, versions 1 to 3.
ORRERY_API at::Tensor load_npy(const std::filesystem::path& path);

/// Reads the arrays of an .npz file, compressed or not, by name. Arrays of strings and objects are left out with a warning.
ORRERY_API TensorMap load_npz(const std::filesystem::path& path);

}  // namespace orrery
