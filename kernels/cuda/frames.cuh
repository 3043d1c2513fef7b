#pragma once

#include <simt.h>

#include "kernels/common/dispatch.h"
#include "kernels/frames.h"

// A thread a square of four pixels, since those share one pair of chroma.
namespace orrery::kernels {

template <class T>
__global__ void __launch_bounds__(256) frames_kernel(Frames p) {
  const int64_t square = int64_t{blockIdx.x} * 256 + threadIdx.x, across = (p.out_w + 1) / 2;
  if (square >= squares_of_frame(p)) return;
  for (int64_t frame = blockIdx.y; frame < p.frames; frame += gridDim.y)
    convert_square<T>(p, frame, square / across, square % across);
}

inline int launch_frames(const Frames& p, void* stream) {
  const int64_t squares = squares_of_frame(p);
  if (squares == 0 || p.frames == 0) return 0;
  const dim3 grid(blocks_of(squares, 256), static_cast<unsigned>(p.frames < 32768 ? p.frames : 32768));
  return for_float_type(p.type,
                        [&](auto number) { return simt::launch(frames_kernel<decltype(number)>, grid, 256, stream, p); });
}

}  // namespace orrery::kernels
