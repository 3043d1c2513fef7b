#include "kernels/cuda/modulated_norm.cuh"

extern "C" __attribute__((visibility("default"))) int orrery_cuda_modulated_norm(const orrery::kernels::ModulatedNorm* p,
                                                                                 void* stream) {
  return orrery::kernels::launch_modulated_norm(*p, stream);
}

extern "C" __attribute__((visibility("default"))) int orrery_cuda_gated_residual(const orrery::kernels::GatedResidual* p,
                                                                                 void* stream) {
  return orrery::kernels::launch_gated_residual(*p, stream);
}
