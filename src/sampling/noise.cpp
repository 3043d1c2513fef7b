#include "sampling/noise.h"

#include <ATen/ATen.h>

#include "ops/dispatch.h"
#include "ops/sampler_step.h"
#include "orrery/noise.h"

namespace orrery::sampling {

at::Tensor normal_noise(at::IntArrayRef shape, const NoiseKey& key) {
  at::Tensor noise = at::empty(shape, at::kFloat);
  ops::fill_with_noise(noise, {.seed = key.seed, .frame = key.frame, .step = key.step});
  return noise;
}

at::Tensor latent_noise(at::IntArrayRef shape, const NoiseKey& key, at::Device device) {
  if (!device.is_cpu()) {  // drawn there, the same bits, where that can be
    const at::Tensor zeros = at::zeros(shape, at::device(device));
    if (ops::on_device_with_kernels(zeros))
      return ops::sampler_step(zeros, zeros, {}, {.of_sample = 0, .of_noise = 1},
                               {.seed = key.seed, .frame = key.frame, .step = key.step});
  }
  at::Tensor noise = at::empty(shape, at::kFloat);
  for (int64_t frame = 0; frame < shape[2]; ++frame)
    noise.select(2, frame).copy_(normal_noise({shape[0], shape[1], shape[3], shape[4]},
                                              {key.seed, key.frame + static_cast<uint32_t>(frame), key.step}));
  return noise.to(device);
}

}  // namespace orrery::sampling

namespace orrery {

at::Tensor normal_noise(at::IntArrayRef shape, uint64_t seed, uint32_t frame, uint32_t step) {
  return sampling::normal_noise(shape, {.seed = seed, .frame = frame, .step = step});
}

}  // namespace orrery
