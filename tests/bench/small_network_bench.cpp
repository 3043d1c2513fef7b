// A linear layer of the bundled worlds: 16 tokens of 256.
#include <ATen/ATen.h>

#include "ops/small_network.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

Beside tokens() {
  const at::Tensor x = at::randn({16, 256}), weight = at::randn({1024, 256}), bias = at::randn({1024}),
                   y = at::empty({16, 1024});
  const ops::PackedProduct product(weight, bias);
  return {[=] { return product(x.const_data_ptr<float>(), 16, y.data_ptr<float>()), y; },
          [=] { return at::linear(x, weight, bias); }};
}
const bool added = beside("small_network", tokens);

}  // namespace
}  // namespace orrery::bench
