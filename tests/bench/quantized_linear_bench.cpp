// One token through a matrix of a 4 B network. On the processor the kernel is a plain twin of the GPU's.
#include <ATen/ATen.h>

#include "ops/quantized_linear.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

Beside token() {
  const at::Tensor x = at::randn({1, 4096}), weight = at::randint(-127, 128, {14336, 4096}, at::kChar),
                   scale = at::full({14336}, 0.01), wide = weight.to(at::kFloat) * 0.01;
  return {[=] { return ops::quantized_linear(x, weight, scale, {}); }, [=] { return at::linear(x, wide); }};
}
const bool added = beside("quantized_linear", token);

}  // namespace
}  // namespace orrery::bench
