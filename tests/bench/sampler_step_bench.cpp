// A guided step of Wan 1.3B: nine frames of 256x256.
#include <ATen/ATen.h>

#include "ops/sampler_step.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

Beside step() {
  const at::Tensor sample = at::randn({1, 16, 3, 32, 32}), output = at::randn({1, 16, 3, 32, 32}),
                   negative = at::randn({1, 16, 3, 32, 32});
  return {[=] { return ops::sampler_step(sample, output, negative, {.of_output = -0.02f, .guidance = 5}); },
          [=] { return sample - 0.02 * (negative + 5 * (output - negative)); }};
}
const bool added = beside("sampler_step", step);

}  // namespace
}  // namespace orrery::bench
