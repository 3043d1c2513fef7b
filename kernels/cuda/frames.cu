#include "kernels/cuda/frames.cuh"

extern "C" __attribute__((visibility("default"))) int orrery_cuda_frames(const orrery::kernels::Frames* p, void* stream) {
  return orrery::kernels::launch_frames(*p, stream);
}
