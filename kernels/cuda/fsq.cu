#include "kernels/cuda/fsq.cuh"

extern "C" __attribute__((visibility("default"))) int orrery_cuda_fsq(const orrery::kernels::Fsq* p, void* stream) {
  return orrery::kernels::launch_fsq(*p, stream);
}
