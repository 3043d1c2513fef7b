// What stands between the products of Wan 1.3B at 768 tokens.
#include <ATen/ATen.h>

#include "ops/modulated_norm.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

Beside norm() {
  const at::Tensor x = at::randn({768, 1536}), scale = at::randn({1, 1536}), shift = at::randn({1, 1536});
  return {[=] {
            return ops::modulated_norm(x, ops::NormKind::kLayer, 1e-6, {}, {}, {scale, {}}, {shift, {}});
          },
          [=] { return at::layer_norm(x, {1536}, {}, {}, 1e-6) * (1 + scale) + shift; }};
}
Beside residual() {
  const at::Tensor x = at::randn({768, 1536}), update = at::randn({768, 1536}), gate = at::randn({1, 1536});
  return {[=] { return ops::gated_residual(x, update, {gate, {}}); }, [=] { return x + gate * update; }};
}
const bool added = beside("modulated_norm", norm) && beside("gated_residual", residual);

}  // namespace
}  // namespace orrery::bench
