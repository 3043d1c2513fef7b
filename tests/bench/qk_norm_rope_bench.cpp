// Queries of Wan 1.3B at 768 tokens. On the processor the kernel is a plain twin of the GPU's.
#include <ATen/ATen.h>

#include "ops/qk_norm_rope.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

Beside queries() {
  const at::Tensor x = at::randn({1, 768, 12, 128}), weight = at::randn({12, 128}), angles = at::randn({768, 64}),
                   cos = angles.cos(), sin = angles.sin();
  return {[=] { return ops::qk_norm_rope(x, weight, cos, sin, {.over_all_heads = true}); },
          [=] {
            const at::Tensor flat = x.flatten(2), normed = flat * (flat.square().mean(-1, true) + 1e-6).rsqrt();
            const auto half = (normed.view(x.sizes()) * weight).chunk(2, -1);
            const at::Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);
            return at::cat({half[0] * c - half[1] * s, half[1] * c + half[0] * s}, -1);
          }};
}
const bool added = beside("qk_norm_rope", queries);

}  // namespace
}  // namespace orrery::bench
