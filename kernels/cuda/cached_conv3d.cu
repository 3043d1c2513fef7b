#include "kernels/cuda/cached_conv3d.cuh"

extern "C" __attribute__((visibility("default"))) int orrery_cuda_cached_conv3d(const orrery::kernels::CachedConv3d* p,
                                                                                void* stream) {
  return orrery::kernels::launch_cached_conv3d(*p, stream);
}

extern "C" __attribute__((visibility("default"))) int orrery_cuda_pixel_factor(const orrery::kernels::PixelFactor* p,
                                                                               void* stream) {
  return orrery::kernels::launch_pixel_factor(*p, stream);
}
