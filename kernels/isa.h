#pragma once

#include <string_view>

namespace orrery::kernels {

/// Keeps the kernels of this processor from instructions newer than "avx2", "sse4" or "ssse3"; false where the name is not
/// known. Before the first kernel runs.
bool limit_isa(std::string_view most);

}  // namespace orrery::kernels
