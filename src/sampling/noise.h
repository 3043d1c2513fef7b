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
/// The same bits whatever the number of threads, the machine and the device (kernels/common/philox.h).
/// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
at::Tensor normal_noise(at::IntArrayRef shape, const NoiseKey& key);

/// Noise for latents [B,C,t,h,w], each of the t frames from its own stream, the first of them frame `key.frame`; brought to
/// `device`.
at::Tensor latent_noise(at::IntArrayRef shape, const NoiseKey& key, at::Device device = at::kCPU);

}  // namespace orrery::sampling
