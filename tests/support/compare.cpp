#include "support/compare.h"

#include <ATen/ATen.h>

#include <limits>
#include <sstream>

namespace orrery::testing {

double relative_l2(const at::Tensor& actual, const at::Tensor& expected) {
  if (actual.sizes() != expected.sizes()) return std::numeric_limits<double>::infinity();
  if (expected.numel() == 0) return 0;
  const at::Tensor a = actual.to(at::kDouble), e = expected.to(at::kDouble);
  if (!a.isfinite().all().item<bool>()) return std::numeric_limits<double>::infinity();
  const double norm = e.norm().item<double>(), difference = (a - e).norm().item<double>();
  return norm == 0 ? (difference == 0 ? 0 : std::numeric_limits<double>::infinity()) : difference / norm;
}

::testing::AssertionResult is_close(const at::Tensor& actual, const at::Tensor& expected, Tolerance tolerance) {
  std::ostringstream why;
  if (!actual.defined() || !expected.defined()) return ::testing::AssertionFailure() << "a tensor is undefined";
  if (actual.sizes() != expected.sizes()) {
    why << "shape " << actual.sizes() << ", expected " << expected.sizes();
    return ::testing::AssertionFailure() << why.str();
  }
  if (actual.is_floating_point() != expected.is_floating_point())
    return ::testing::AssertionFailure() << "one is floating point, the other is not";
  if (!expected.is_floating_point()) {
    const int64_t differing = actual.to(at::kLong).ne(expected.to(at::kLong)).sum().item<int64_t>();
    if (differing * 1000 <= expected.numel()) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << differing << " of " << expected.numel() << " integers differ";
  }
  const double distance = relative_l2(actual, expected);
  if (distance <= tolerance.relative_l2) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "relative L2 " << distance << " > " << tolerance.relative_l2;
}

}  // namespace orrery::testing
