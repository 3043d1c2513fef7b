#pragma once

#include <filesystem>

namespace orrery::testing {

/// The root of the source tree.
std::filesystem::path source_root();
/// tests/golden: inputs and expected outputs with the scripts that made them.
std::filesystem::path golden_folder();
/// The orrery program of this build.
std::filesystem::path program_path();

}  // namespace orrery::testing
