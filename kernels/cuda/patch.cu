#include "kernels/cuda/patch.cuh"

extern "C" __attribute__((visibility("default"))) int orrery_cuda_patch(const orrery::kernels::Patch* p, void* stream) {
  return orrery::kernels::launch_patch(*p, stream);
}
