#pragma once

#include <cstdint>

// A norm and the SiLU after it in one pass over memory. Rows are float32 vectors of `channels` values, one after the other.
namespace orrery::kernels {

/// y = silu(x / max(‖x‖₂, 1e-12) · √channels · gamma), each row alone. The items are rows; `y` may be `x`. Rounding: below
/// 1e-6.
void l2_norm_silu(const float* x, const float* gamma, int64_t channels, int64_t begin, int64_t end, float* y);

/// The sums of x and of x² over the values [begin, end), in float64.
struct Moments {
  double sum = 0, squares = 0;
};
Moments moments(const float* x, int64_t begin, int64_t end);

/// y = silu((x − mean) · scale + shift), channel by channel. The items are rows; `y` may be `x`.
void affine_silu(const float* x, float mean, const float* scale, const float* shift, int64_t channels, int64_t begin,
                 int64_t end, float* y);

}  // namespace orrery::kernels
