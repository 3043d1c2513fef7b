// One token of Cosmos Predict1 4B after 4095 others. On the processor the kernel is a plain twin of the GPU's.
#include <ATen/ATen.h>

#include "ops/paged_attention.h"
#include "tests/bench/beside.h"

namespace orrery::bench {
namespace {

Beside token() {
  const at::Tensor query = at::randn({1, 1, 32, 128}), keys = at::randn({16, 256, 8, 128}),
                   values = at::randn({16, 256, 8, 128}), table = at::arange(16, at::kInt).view({1, 16});
  return {[=] {
            return ops::paged_attention(query, {keys, values, table, 0, 4096}, 4096, {}, {}, false);
          },
          [=] {
            const auto heads = [](const at::Tensor& pages) {
              return pages.view({1, 4096, 8, 128}).transpose(1, 2).repeat_interleave(4, 1);
            };
            return at::scaled_dot_product_attention(query.transpose(1, 2), heads(keys), heads(values)).transpose(1, 2);
          }};
}
const bool added = beside("paged_attention", token);

}  // namespace
}  // namespace orrery::bench
