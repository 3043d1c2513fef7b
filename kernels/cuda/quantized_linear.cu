#include "kernels/cuda/quantized_linear.cuh"

extern "C" __attribute__((visibility("default"))) int orrery_cuda_quantized_linear(const orrery::kernels::QuantizedLinear* p, void* stream) {
  return orrery::kernels::launch_quantized_linear(*p, stream);
}
