#include "ops/linear_small.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <sstream>

#include "kernels/linear_small.h"
#include "orrery/error.h"

namespace orrery::ops {
namespace {

constexpr int64_t kBytesAThread = 64 * 1024;  // of weights: less is not worth waking a thread for

}  // namespace

bool takes_linear_small(const at::Tensor& input, const at::Tensor& weight) {
  const at::ScalarType stored = weight.scalar_type();
  const bool known = stored == at::kBFloat16 || stored == at::kChar || stored == at::kFloat8_e4m3fn;
  return known && input.is_cpu() && weight.is_cpu() && input.scalar_type() == at::kFloat && weight.dim() == 2 &&
         weight.is_contiguous() && input.dim() >= 1 && input.size(-1) == weight.size(1) && input.numel() > 0 &&
         input.numel() <= kernels::kLinearSmallRows * weight.size(1);
}

at::Tensor linear_small(const at::Tensor& input, const at::Tensor& weight) {
  if (!takes_linear_small(input, weight)) {
    std::ostringstream got;
    got << input.scalar_type() << ' ' << input.sizes() << " and " << weight.scalar_type() << ' ' << weight.sizes();
    throw Error(
        ErrorKind::kArgument,
        {.place = "linear_small",
         .what = "cannot multiply these",
         .expected =
             "float32 [..., in] of at most 8 rows and contiguous bfloat16, int8 or float8 (e4m3) [out, in] on the CPU",
         .got = got.str()});
  }
  const int64_t out = weight.size(0), in = weight.size(1), rows = input.numel() / in;
  const at::Tensor x = input.contiguous();
  auto shape = input.sizes().vec();
  shape.back() = out;
  at::Tensor output = at::empty(shape, x.options());
  const auto spread = [&](const auto* weights) {
    const int64_t grain = std::max<int64_t>(1, kBytesAThread / (in * static_cast<int64_t>(sizeof *weights)));
    at::parallel_for(0, out, grain, [&](int64_t begin, int64_t end) {
      kernels::linear_small(x.const_data_ptr<float>(), rows, in, weights, output.data_ptr<float>(), out, begin, end);
    });
  };
  switch (weight.scalar_type()) {
    case at::kChar: spread(weight.const_data_ptr<int8_t>()); break;
    case at::kFloat8_e4m3fn: spread(static_cast<const kernels::Float8*>(weight.const_data_ptr())); break;
    default: spread(static_cast<const uint16_t*>(weight.const_data_ptr()));
  }
  return output;
}

}  // namespace orrery::ops
