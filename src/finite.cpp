#include "finite.h"

#include <ATen/ATen.h>

#include <cmath>

#include "orrery/error.h"

namespace orrery {
namespace {

// A sum over everything is NaN or infinite as soon as one element is, and costs no memory.
bool is_finite(const at::Tensor& tensor) { return std::isfinite(tensor.sum(at::kDouble).item<double>()); }

}  // namespace

void check_finite(const at::Tensor& output, const at::Tensor& input, const std::string& what, const std::string& input_name) {
  if (is_finite(output)) return;
  if (!is_finite(input))
    throw Error(ErrorKind::kArgument, {.place = input_name, .what = "holds values that are not finite (NaN or infinity)"});
  throw Error(ErrorKind::kWeights, {.place = what,
                                    .what = "the result is not finite (NaN or infinity) although the input is",
                                    .hint = "the checkpoint is damaged, or overflows in this dtype"});
}

}  // namespace orrery
