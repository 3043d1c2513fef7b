#pragma once

#include <cstdint>
#include <vector>

#include "ops/small_network.h"

namespace orrery::models {

/// A square picture of zeros, channels last, with a border of one pixel: what a 3x3 convolution reads.
std::vector<float> bordered(int64_t side, int64_t channels);

/// 3x3, zeros around: padded [side + 2, side + 2, in] → out [side, side, out].
void convolve(const ops::PackedProduct& conv, const float* padded, int64_t side, float* out,
              ops::Then then = ops::Then::kStore);

}  // namespace orrery::models
