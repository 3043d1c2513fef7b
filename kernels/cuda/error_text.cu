#include <simt.h>

#ifdef __CUDACC__
/// What CUDA calls an error.
extern "C" __attribute__((visibility("default"))) const char* orrery_cuda_error_text(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}
#endif
