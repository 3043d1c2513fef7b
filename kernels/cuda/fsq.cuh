#pragma once

#include <simt.h>

#include "kernels/common/dispatch.h"
#include "kernels/fsq.h"

// A thread a row; the numbers of a row may lie a plane apart, so that neighbouring threads read neighbouring numbers.
namespace orrery::kernels {

inline __global__ void __launch_bounds__(256) fsq_kernel(Fsq p) {
  const int64_t row = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (row < p.rows) fsq_row(p, row);
}

inline int launch_fsq(const Fsq& p, void* stream) {
  if (p.rows == 0) return 0;
  return simt::launch(fsq_kernel, dim3(blocks_of(p.rows, 256)), 256, stream, p);
}

}  // namespace orrery::kernels
