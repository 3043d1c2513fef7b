// A frame of a video decoder after two remembered ones; Wan 2.1's 96 channels at 32x32.
#include <ATen/ATen.h>

#include "ops/cached_conv3d.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

Beside frame() {
  const at::Tensor x = at::randn({1, 1, 32, 32, 96}), past = at::randn({1, 2, 32, 32, 96}), bias = at::randn({96});
  const at::Tensor weight = at::randn({96, 3, 3, 3, 96}) * 0.02;
  return {[=] { return ops::cached_conv3d(x, past, weight, bias, {}, {}, {}); },
          [=] {
            return at::conv3d(at::cat({past, x}, 1).permute({0, 4, 1, 2, 3}), weight.permute({0, 4, 1, 2, 3}), bias, 1,
                              at::IntArrayRef{0, 1, 1})
                .permute({0, 2, 3, 4, 1});
          }};
}
const bool added = beside("cached_conv3d", frame);

}  // namespace
}  // namespace orrery::bench
