// Files of recorded actions.
#pragma once

#include <filesystem>
#include <vector>

#include "orrery/action_space.h"

namespace program {

/// Rows of .npy, .safetensors with `actions` [T,A], or a JSON array of rows, numbers or named actions. What is no number
/// there is NaN here, for ActionSpace::check to refuse with its row. Throws Error(kArgument) on anything else.
std::vector<std::vector<double>> read_actions(const std::filesystem::path& path, const orrery::ActionSpace& space);

}  // namespace program
