#pragma once

#include <ATen/core/Tensor.h>

namespace orrery::layers {

/// The usual embedding of noise times: [cos(t·f₀)…cos(t·f_{D/2−1}), sin(…)…], f_i = 10000^(−i / (D/2)), computed in float32.
/// times of any shape and dtype → [..., width]; `width` must be even.
at::Tensor sinusoidal_embedding(const at::Tensor& times, int64_t width);

}  // namespace orrery::layers
