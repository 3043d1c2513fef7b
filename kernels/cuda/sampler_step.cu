#include "kernels/cuda/sampler_step.cuh"

extern "C" __attribute__((visibility("default"))) int orrery_cuda_sampler_step(const orrery::kernels::SamplerStep* p,
                                                                               void* stream) {
  return orrery::kernels::launch_sampler_step(*p, stream);
}
