#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "orrery/export.h"

namespace orrery {

/// The noise field that a seed stands for: standard normal float32 of this shape for one latent frame and one sampling step.
/// Philox4x32-10 keyed by `seed`, counted by (element, step, frame), then Box-Muller; the same values whatever was drawn before, so a
/// forked or rewound world draws again what it drew. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
ORRERY_API at::Tensor normal_noise(at::IntArrayRef shape, uint64_t seed, uint32_t frame, uint32_t step = 0);

}  // namespace orrery
