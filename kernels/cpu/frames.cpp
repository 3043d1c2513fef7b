#include "kernels/frames.h"

#include "kernels/common/dispatch.h"

namespace orrery::kernels {

void frames_cpu(const Frames& p, int64_t begin, int64_t end) {
  const int64_t squares = squares_of_frame(p), across = (p.out_w + 1) / 2;
  for_float_type(p.type, [&](auto number) {
    for (int64_t i = begin; i < end; ++i)
      convert_square<decltype(number)>(p, i / squares, i % squares / across, i % squares % across);
  });
}

}  // namespace orrery::kernels
