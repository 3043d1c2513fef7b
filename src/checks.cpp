#include "checks.h"

#include <ATen/ATen.h>

#include <cmath>

#include "orrery/error.h"

namespace orrery {
namespace {

// A sum over everything is NaN or infinite as soon as one element is, and costs no memory.
bool is_finite(const at::Tensor& tensor) {
  return std::isfinite(tensor.sum(at::kDouble).item<double>());
}

}  // namespace

void check_finite(const at::Tensor& output, const at::Tensor& input, const std::string& what,
                  const std::string& input_name) {
  if (is_finite(output)) return;
  if (!is_finite(input))
    throw Error(ErrorKind::kArgument, {.place = input_name, .what = "holds values that are not finite (NaN or infinity)"});
  throw Error(ErrorKind::kWeights, {.place = what,
                                    .what = "the result is not finite (NaN or infinity) although the input is",
                                    .hint = "the checkpoint is damaged, or overflows in this dtype"});
}

void check_indices(const at::Tensor& indices, int64_t vocabulary) {
  if (vocabulary <= 0) return;  // codes_of() refuses a continuous tokenizer in its own words
  if (at::isFloatingType(indices.scalar_type()))
    throw Error(ErrorKind::kArgument,
                {.place = "indices", .what = "must be integers", .got = at::toString(indices.scalar_type())});
  const int64_t low = indices.min().item<int64_t>(), high = indices.max().item<int64_t>();
  if (low < 0 || high >= vocabulary)
    throw Error(ErrorKind::kArgument, {.place = "indices",
                                       .what = "name codes that the tokenizer does not have",
                                       .expected = "0 … " + std::to_string(vocabulary - 1),
                                       .got = std::to_string(low) + " … " + std::to_string(high)});
}

}  // namespace orrery
