#include "ops/quantized_linear.h"

#include <ATen/ATen.h>

#include "kernels/quantized_linear.h"
#include "ops/dispatch.h"

namespace orrery::ops {

at::Tensor quantized_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale, const at::Tensor& bias) {
  Operands operands("quantized_linear");
  operands.first("x", x, {at::kFloat, at::kBFloat16, at::kHalf}).also("x", x, x.scalar_type(), {-1, -1}).rows("x", x);
  operands.require(x.size(0) <= kQuantizedLinearRows, "x", "has more rows than this op is for",
                   "at most " + std::to_string(kQuantizedLinearRows), std::to_string(x.size(0)));
  operands.require(weight.defined(), "weight", "is missing", "a tensor", "none");
  const at::ScalarType type = weight.scalar_type();
  operands.require(type == at::kChar || type == at::ScalarType::Float8_e4m3fn, "weight",
                   "has a dtype that the op has no kernel for", "Char or Float8_e4m3fn", at::toString(type));
  operands.also("weight", weight, type, {-1, x.size(1)}).contiguous("weight", weight);
  const int64_t out = weight.size(0);
  operands.also("scale", scale, at::kFloat, {out}).contiguous("scale", scale);
  if (bias.defined()) operands.also("bias", bias, at::kFloat, {out}).contiguous("bias", bias);
  const at::Tensor y = at::empty({x.size(0), out}, x.options());
  kernels::QuantizedLinear p;
  p.type = number_of(x.scalar_type());
  p.weight_type = number_of(type);
  p.rows = x.size(0);
  p.in = x.size(1);
  p.out = out;
  p.x = x.const_data_ptr();
  p.x_stride = x.stride(0);
  p.weight = weight.const_data_ptr();
  p.scale = scale.const_data_ptr<float>();
  p.bias = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
  p.y = y.mutable_data_ptr();
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_quantized_linear", p);
  else
    spread(out, 16, [&](int64_t begin, int64_t end) { kernels::quantized_linear_cpu(p, begin, end); });
  return y;
}

}  // namespace orrery::ops
