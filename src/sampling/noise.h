#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace orrery::sampling {

/// Which numbers of the one noise field that a seed stands for: every latent frame of every step has its own stream, so a
/// forked or rewound world draws again what it drew.
struct NoiseKey {
  uint64_t seed = 0;
  uint32_t frame = 0;  ///< latent frame
  uint32_t step = 0;   ///< sampling step; 0 for the noise a run starts from
};

/// Standard normal float32 of this shape: Philox4x32-10 keyed by `seed`, counted by (element, step, frame), then Box-Muller.
/// The same values whatever the order and the number of threads.
/// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
at::Tensor normal_noise(at::IntArrayRef shape, const NoiseKey& key);

/// Noise for latents [B,C,t,h,w], each of the t frames from its own stream, the first of them frame `key.frame`.
at::Tensor latent_noise(at::IntArrayRef shape, const NoiseKey& key);

/// The raw generator: four 32-bit words of counter and key (for tests against the published vectors).
struct PhiloxBlock {
  uint32_t words[4];
};
PhiloxBlock philox4x32_10(PhiloxBlock counter, uint64_t key);

}  // namespace orrery::sampling
