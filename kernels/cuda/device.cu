#include <simt.h>

#ifdef __CUDACC__
/// What CUDA calls an error.
extern "C" __attribute__((visibility("default"))) const char* orrery_cuda_error_text(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

/// The compute capability of a GPU, 10 · major + minor; the negative CUDA error where there is none.
extern "C" __attribute__((visibility("default"))) int orrery_cuda_capability(int device) {
  int major = 0, minor = 0;
  cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  return error == cudaSuccess ? 10 * major + minor : -static_cast<int>(error);
}
#endif
