#pragma once

#include <simt.h>

#include "kernels/common/dispatch.h"
#include "kernels/patch.h"

// A thread a patch of one channel. Neighbouring threads have neighbouring patches, so accesses join on the side of the
// patches, and on that of the pixels every byte of a line is used by the same warp.
namespace orrery::kernels {

template <class T>
__global__ void __launch_bounds__(256, 4) patch_kernel(Patch p) {
  const int64_t cell = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (cell < p.batch * p.channels * p.t * p.h * p.w) move_cell<T>(p, cell);
}

inline int launch_patch(const Patch& p, void* stream) {
  const int64_t cells = p.batch * p.channels * p.t * p.h * p.w;
  if (cells == 0) return 0;
  return for_float_type(p.type, [&](auto number) {
    return simt::launch(patch_kernel<decltype(number)>, dim3(blocks_of(cells, 256)), 256, stream, p);
  });
}

}  // namespace orrery::kernels
