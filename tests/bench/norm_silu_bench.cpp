// Norm and activation before a convolution of a video decoder, channels last: Wan 2.1's and Cosmos's.
#include <ATen/ATen.h>

#include <cmath>

#include "ops/norm_silu.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

Beside l2() {
  const at::Tensor x = at::randn({1, 2, 128, 128, 192}), gamma = at::randn({192}), y = at::empty_like(x);
  return {[=] { return ops::l2_norm_silu(x, gamma, y), y; },
          [=] { return at::silu(x / x.norm(2, -1, true).clamp_min(1e-12) * (gamma * std::sqrt(192.0))); }};
}
Beside frame() {
  const at::Tensor x = at::randn({2, 128, 128, 192}), weight = at::randn({192}), bias = at::randn({192}),
                   y = at::empty_like(x);
  return {[=] { return ops::frame_norm_silu(x, weight, bias, 1e-6, y), y; },
          [=] {
            return at::silu(at::group_norm(x.permute({0, 3, 1, 2}), 1, weight, bias, 1e-6)).permute({0, 2, 3, 1});
          }};
}
const bool added = beside("l2_norm_silu", l2) && beside("frame_norm_silu", frame);

}  // namespace
}  // namespace orrery::bench
