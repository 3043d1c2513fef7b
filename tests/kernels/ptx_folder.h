#pragma once

#include <string>

namespace orrery::testing {

/// Where the build put the kernels as nvcc compiled them; empty without nvcc.
std::string ptx_folder();

}  // namespace orrery::testing
