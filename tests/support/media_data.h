#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace orrery::testing {

/// A clip of tests/golden/media.
std::filesystem::path clip(const std::string& name);
/// Its frames as the ffmpeg program decodes them, uint8 of this shape.
at::Tensor golden_frames(const std::string& name, at::IntArrayRef shape);
/// The largest difference of two uint8 tensors of one shape.
int max_difference(const at::Tensor& a, const at::Tensor& b);

/// Names of all that lies in a folder, hidden ones too, sorted.
std::vector<std::string> names_in(const std::filesystem::path& folder);

}  // namespace orrery::testing
