#include "kernels/cuda/qk_norm_rope.cuh"

extern "C" __attribute__((visibility("default"))) int orrery_cuda_qk_norm_rope(const orrery::kernels::QkNormRope* p,
                                                                               void* stream) {
  return orrery::kernels::launch_qk_norm_rope(*p, stream);
}
