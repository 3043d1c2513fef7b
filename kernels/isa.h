#pragma once

#include <string_view>

namespace orrery::kernels {

/// Keeps the kernels of this processor from instructions newer than "avx512" (matrix tiles), "avx2_vnni" (AVX2 with 256-bit
/// byte products), "avx2", "sse4" or "ssse3"; false where the name is not known. Before the first kernel runs.
bool limit_isa(std::string_view most);

/// Whether matrix tiles (Intel AMX) may be used: the processor has them, the system permits them to this process, and they
/// were not forbidden.
bool has_tiles();

/// Whether kernels for AVX2 may use AVX-VNNI where the processor has it.
bool allows_avx_vnni();

}  // namespace orrery::kernels
