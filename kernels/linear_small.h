#pragma once

#include <cstdint>

#include "kernels/common/numbers.h"

namespace orrery::kernels {

/// The most rows of x that linear_small takes.
inline constexpr int64_t kLinearSmallRows = 8;

/// y[m·y_stride + n] = Σ_k x[m·k_size + k] · w[n·k_size + k] for rows m of x and rows n of w in [begin, end). Sums are
/// float32. With so few rows reading w is the work, so each element of w is read once and widened in a register.
void linear_small(const float* x, int64_t rows, int64_t k_size, const int8_t* w, float* y, int64_t y_stride, int64_t begin,
                  int64_t end);
/// The same with w as the bits of bfloat16.
void linear_small(const float* x, int64_t rows, int64_t k_size, const uint16_t* w, float* y, int64_t y_stride, int64_t begin,
                  int64_t end);
void linear_small(const float* x, int64_t rows, int64_t k_size, const Float8* w, float* y, int64_t y_stride, int64_t begin,
                  int64_t end);

}  // namespace orrery::kernels
