// A token of Cosmos's 64,000.
#include <ATen/ATen.h>

#include "ops/top_p.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

Beside draw() {
  const at::Tensor logits = at::randn({1, 64000});
  return {[=] { return ops::top_p(logits, 1, 0.8, {3}); },
          [=] {
            const auto [falling, ids] = logits.softmax(-1).sort(-1, true);
            const at::Tensor kept = falling.masked_fill((falling.cumsum(-1) - falling).gt(0.8), 0);
            return ids.gather(1, kept.multinomial(1));
          }};
}
const bool added = beside("top_p", draw, -1);

}  // namespace
}  // namespace orrery::bench
