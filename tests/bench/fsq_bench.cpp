// Tokens of one second of 720p with the levels of Cosmos DV8x16x16.
#include <ATen/ATen.h>

#include "ops/fsq.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

Beside second() {
  const at::Tensor z = at::randn({6 * 45 * 80, 6}), half_range = at::tensor({7, 7, 7, 4, 4, 4}, at::kFloat) * 1.001 / 2,
                   offset = at::tensor({0.5, 0.5, 0.5, 0.0, 0.0, 0.0}, at::kFloat), shift = (offset / half_range).atanh(),
                   half_width = at::tensor({4, 4, 4, 2, 2, 2}, at::kFloat);
  return {[=] {
            return ops::fsq_quantize(z, {8, 8, 8, 5, 5, 5}).first;
          },
          [=] { return ((z + shift).tanh() * half_range - offset).round() / half_width; }};
}
const bool added = beside("fsq", second);

}  // namespace
}  // namespace orrery::bench
