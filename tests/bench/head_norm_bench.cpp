// Queries and the inner layer of Wan 1.3B at 768 tokens.
#include <ATen/ATen.h>

#include "ops/head_norm.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

Beside queries() {
  const at::Tensor x = at::randn({1, 768, 12, 128}), weight = at::randn({1536}), angles = at::randn({768, 64}),
                   cos = angles.cos(), sin = angles.sin();
  return {[=] { return ops::head_norm(x, weight, ops::NormedOver::kAllHeads, 1e-6, cos, sin, /*neighbours=*/true); },
          [=] {
            const at::Tensor flat = x.flatten(2), normed = flat * (flat.square().mean(-1, true) + 1e-6).rsqrt() * weight;
            const auto pair = normed.view({1, 768, 12, 64, 2}).unbind(-1);
            const at::Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);
            return at::stack({pair[0] * c - pair[1] * s, pair[0] * s + pair[1] * c}, -1).flatten(3);
          }};
}
Beside gelu() {
  const at::Tensor x = at::randn({1, 768, 8960});
  return {[=] { return ops::gelu_tanh(x.clone()); }, [=] { return at::gelu(x, "tanh"); }};
}
const bool added = beside("head_norm", queries) && beside("gelu_tanh", gelu);

}  // namespace
}  // namespace orrery::bench
