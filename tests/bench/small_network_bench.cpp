// A linear layer of the bundled worlds: 16 tokens of 256.
#include <ATen/ATen.h>

#include "ops/small_network.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

template <ops::PackedProduct::Form form>
Beside tokens() {
  const at::Tensor x = at::randn({16, 256}), weight = at::randn({1024, 256}).to(at::kBFloat16).to(at::kFloat),
                   bias = at::randn({1024}), y = at::empty({16, 1024});
  const ops::PackedProduct product(weight, bias, form);
  return {[=] { return product(x.const_data_ptr<float>(), 16, y.data_ptr<float>()), y; },
          [=] { return at::linear(x, weight, bias); }};
}
const bool added = beside("small_network/vectors", tokens<ops::PackedProduct::Form::kVectors>) &&
                   beside("small_network/tiles", tokens<ops::PackedProduct::Form::kTiles>);

}  // namespace
}  // namespace orrery::bench
