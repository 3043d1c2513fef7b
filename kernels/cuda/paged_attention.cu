#include "kernels/cuda/paged_attention.cuh"

extern "C" __attribute__((visibility("default"))) int orrery_cuda_paged_attention(const orrery::kernels::PagedAttention* p,
                                                                                  void* stream) {
  return orrery::kernels::launch_paged_attention(*p, stream);
}
