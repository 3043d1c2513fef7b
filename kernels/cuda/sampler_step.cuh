#pragma once

#include <simt.h>

#include "kernels/common/dispatch.h"
#include "kernels/sampler_step.h"

// A thread makes four numbers, as one call of the generator does. With noise it is bound by float64 arithmetic (some 120
// operations a number), without by memory; both are far below one block of the network.
namespace orrery::kernels {

template <class T>
__global__ void __launch_bounds__(256) sampler_step_kernel(SamplerStep p) {
  const int64_t group = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (group >= groups_of_frame(p)) return;
  for (int64_t frame = blockIdx.y; frame < p.frames; frame += gridDim.y) step_group<T>(p, frame, group);
}

inline int launch_sampler_step(const SamplerStep& p, void* stream) {
  const int64_t groups = groups_of_frame(p);
  if (groups == 0 || p.frames == 0) return 0;
  const dim3 grid(blocks_of(groups, 256), static_cast<unsigned>(p.frames < 32768 ? p.frames : 32768));
  return for_float_type(
      p.type, [&](auto number) { return simt::launch(sampler_step_kernel<decltype(number)>, grid, 256, stream, p); });
}

}  // namespace orrery::kernels
