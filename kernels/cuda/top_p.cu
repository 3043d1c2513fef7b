#include "kernels/cuda/top_p.cuh"

extern "C" __attribute__((visibility("default"))) int orrery_cuda_top_p(const orrery::kernels::TopP* p, void* stream) {
  return orrery::kernels::launch_top_p(*p, stream);
}
