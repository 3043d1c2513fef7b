#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/common/numbers.h"

namespace orrery::kernels {

/// Finite scalar quantisation of rows of up to eight numbers, and back. Source: Mentzer et al., "Finite scalar
/// quantization", 2023.
struct Fsq {
  int dims = 0;
  int levels[8] = {};
  float half_range[8] = {}, offset[8] = {}, shift[8] = {};  ///< bounded = tanh(z + shift) · half_range − offset
  int64_t rows = 0;
  const float* z = nullptr;  ///< [rows, dims]; null where indices are given
  int64_t z_row = 0, z_dim = 0;
  float* codes = nullptr;  ///< [rows, dims], multiples of 1 / (level / 2)
  int64_t codes_row = 0, codes_dim = 0;
  int32_t* indices = nullptr;  ///< [rows], written where z is given, else read
};

/// One row: the body of both kernels.
ORRERY_EVERYWHERE void fsq_row(const Fsq& p, int64_t row) {
  int64_t basis = 1, index = 0;
  int64_t rest = p.z ? 0 : p.indices[row];
  for (int i = 0; i < p.dims; ++i) {
    const int half_width = p.levels[i] / 2;
    int digit;
    if (p.z) {
      const float bounded = tanhf(p.z[row * p.z_row + i * p.z_dim] + p.shift[i]) * p.half_range[i] - p.offset[i];
      digit = static_cast<int>(rintf(bounded)) + half_width;
      index += digit * basis;
      basis *= p.levels[i];
    } else {
      digit = static_cast<int>(rest % p.levels[i]);
      rest /= p.levels[i];
    }
    p.codes[row * p.codes_row + i * p.codes_dim] = static_cast<float>(digit - half_width) / static_cast<float>(half_width);
  }
  if (p.z) p.indices[row] = static_cast<int32_t>(index);
}

/// Rows [begin, end) on the CPU.
void fsq_cpu(const Fsq& p, int64_t begin, int64_t end);

}  // namespace orrery::kernels

/// On the GPU; the CUDA error, 0 if there is none.
extern "C" int orrery_cuda_fsq(const orrery::kernels::Fsq* p, void* stream);
