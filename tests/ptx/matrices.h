#pragma once

#include <cstdint>
#include <string>

namespace orrery::ptx {

/// d += a b for the warp, with the fragments of m16n8k16 (bf16, f16) or m16n8k32 (s8).
void multiply_matrices(const std::string& type, const uint32_t* a, const uint32_t* b, uint32_t* d);
/// ldmatrix .x4 of 16-bit numbers: d[0 … 3] of each lane.
void load_matrices(const unsigned char* row, bool transposed, uint32_t* d);

}  // namespace orrery::ptx
