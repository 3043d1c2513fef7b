// Eight frames of 256x256 cut into patches of 2x2x2.
#include <ATen/ATen.h>

#include "ops/patch.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

Beside cut() {
  const at::Tensor x = at::randn({1, 3, 8, 256, 256});
  return {[=] {
            return ops::patch(x, {2, 2, false});
          },
          [=] {
            return x.view({1, 3, 4, 2, 128, 2, 128, 2}).permute({0, 3, 5, 7, 1, 2, 4, 6}).flatten(1, 4).contiguous();
          }};
}
const bool added = beside("patch", cut);

}  // namespace
}  // namespace orrery::bench
