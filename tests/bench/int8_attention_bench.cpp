// Self-attention of Wan 1.3B at 256 tokens. On the processor the kernel is a plain twin of the GPU's.
#include <ATen/ATen.h>

#include "ops/int8_attention.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

Beside heads() {
  const auto make = [] { return at::randn({1, 256, 12, 128}).to(at::kBFloat16); };
  const at::Tensor q = make(), k = make(), v = make();
  return {[=] { return ops::int8_attention(q, k, v); },
          [=] {
            const auto wide = [](const at::Tensor& x) { return x.to(at::kFloat).transpose(1, 2); };
            return at::scaled_dot_product_attention(wide(q), wide(k), wide(v)).transpose(1, 2);
          }};
}
const bool added = beside("int8_attention", heads, 0.1);

}  // namespace
}  // namespace orrery::bench
