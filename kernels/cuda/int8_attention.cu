#include "kernels/cuda/int8_attention.cuh"

extern "C" __attribute__((visibility("default"))) int orrery_cuda_int8_attention(const orrery::kernels::Int8Attention* p,
                                                                                 void* stream) {
  return orrery::kernels::launch_int8_attention(*p, stream);
}

extern "C" __attribute__((visibility("default"))) int orrery_cuda_quantize_heads(const orrery::kernels::QuantizeHeads* p,
                                                                                 void* stream) {
  return orrery::kernels::launch_quantize_heads(*p, stream);
}
