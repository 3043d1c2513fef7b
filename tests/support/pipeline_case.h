#pragma once

#include <filesystem>
#include <string>

#include "orrery/generate_options.h"

namespace orrery::testing {

/// The model of a folder of tests/golden/pipelines: its own, or another's.
std::string model_of(const std::filesystem::path& folder);
/// The options that its command line stands for.
GenerateOptions options_of(const std::filesystem::path& folder);

}  // namespace orrery::testing
