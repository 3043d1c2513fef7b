#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace orrery::ops {

/// What a step adds up, and how a negative prediction steers.
struct StepWeights {
  float of_sample = 1;
  float of_output = 0;
  float of_noise = 0;
  float guidance = 1;
  bool from_negative = true;  ///< n + g (o − n); else o + g (o − n)
};

/// Which noise a step draws: the seed's stream of latent frame `frame` and those after it, at `step`.
struct StepNoise {
  uint64_t seed = 0;
  uint32_t frame = 0;
  uint32_t step = 0;
};

/// of_sample · sample + of_output · guided(output, negative) + of_noise · noise for latents [B,C,t,h,w] in one pass, the
/// same bits on every device. sample is float32; output and negative (undefined: no guidance) share a dtype of float32,
/// bfloat16 or float16; all contiguous. Returns float32. Throws Error(kArgument) naming the operand.
at::Tensor sampler_step(const at::Tensor& sample, const at::Tensor& output, const at::Tensor& negative,
                        const StepWeights& weights, const StepNoise& noise = {});

/// Fills a contiguous float32 tensor of the CPU with the standard normals 0 … numel − 1 of a stream.
void fill_with_noise(const at::Tensor& values, const StepNoise& noise);

}  // namespace orrery::ops
