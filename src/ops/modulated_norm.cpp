#include "ops/modulated_norm.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/modulated_norm.h"
#include "ops/dispatch.h"

namespace orrery::ops {
namespace {

// Rows handed to one thread at a time: about 64 Ki numbers.
int64_t grain(int64_t width) {
  return (int64_t{1} << 16) / std::max<int64_t>(1, width);
}

// Checks a modulation and puts it into the kernel's terms. `groups` is what an earlier one had, 0 before the first.
kernels::Modulation checked(Operands& operands, const char* name, const Modulation& modulation, int64_t rows, int64_t width,
                            int64_t& groups) {
  kernels::Modulation result;
  if (!modulation.values.defined()) return result;
  operands.also(name, modulation.values, at::kFloat, {groups > 0 ? groups : -1, width}).rows(name, modulation.values);
  groups = modulation.values.size(0);
  operands.require(groups > 0 && rows % groups == 0, name, "must split the rows evenly",
                   "a divisor of " + std::to_string(rows), std::to_string(groups));
  result.values = modulation.values.const_data_ptr<float>();
  result.stride = modulation.values.stride(0);
  if (modulation.addend.defined()) {
    operands.also(name, modulation.addend, at::kFloat, {groups, width}).rows(name, modulation.addend);
    result.addend = modulation.addend.const_data_ptr<float>();
    result.addend_stride = modulation.addend.stride(0);
  }
  return result;
}

const float* checked_vector(Operands& operands, const char* name, const at::Tensor& vector, int64_t width) {
  if (!vector.defined()) return nullptr;
  operands.also(name, vector, at::kFloat, {width}).contiguous(name, vector);
  return vector.const_data_ptr<float>();
}

}  // namespace

at::Tensor modulated_norm(const at::Tensor& x, NormKind kind, double epsilon, const at::Tensor& weight,
                          const at::Tensor& bias, const Modulation& scale, const Modulation& shift, bool silu) {
  Operands operands("modulated_norm");
  operands.first("x", x, {at::kFloat, at::kBFloat16, at::kHalf}).also("x", x, x.scalar_type(), {-1, -1}).rows("x", x);
  const at::Tensor out = at::empty(x.sizes(), x.options());
  kernels::ModulatedNorm p;
  p.type = number_of(x.scalar_type());
  p.centred = kind == NormKind::kLayer;
  p.silu = silu;
  p.epsilon = static_cast<float>(epsilon);
  p.rows = x.size(0);
  p.width = x.size(1);
  p.x = x.const_data_ptr();
  p.x_stride = x.stride(0);
  p.out = out.mutable_data_ptr();
  p.out_stride = p.width;
  p.weight = checked_vector(operands, "weight", weight, p.width);
  p.bias = checked_vector(operands, "bias", bias, p.width);
  int64_t groups = 0;
  p.scale = checked(operands, "scale", scale, p.rows, p.width, groups);
  p.shift = checked(operands, "shift", shift, p.rows, p.width, groups);
  p.rows_per_group = std::max<int64_t>(1, p.rows / std::max<int64_t>(1, groups));
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_modulated_norm", p);
  else
    spread(p.rows, grain(p.width), [&](int64_t begin, int64_t end) { kernels::modulated_norm_cpu(p, begin, end); });
  return out;
}

at::Tensor gated_residual(const at::Tensor& residual, const at::Tensor& x, const Modulation& gate) {
  Operands operands("gated_residual");
  operands.first("residual", residual, {at::kFloat, at::kBFloat16, at::kHalf})
      .also("residual", residual, residual.scalar_type(), {-1, -1})
      .rows("residual", residual);
  const int64_t rows = residual.size(0), width = residual.size(1);
  operands.also("x", x, residual.scalar_type(), {rows, width}).rows("x", x);
  operands.require(gate.values.defined(), "gate", "is missing", "a tensor", "none");
  const at::Tensor out = at::empty(residual.sizes(), residual.options());
  kernels::GatedResidual p;
  p.type = number_of(residual.scalar_type());
  p.rows = rows;
  p.width = width;
  p.x = x.const_data_ptr();
  p.x_stride = x.stride(0);
  p.residual = residual.const_data_ptr();
  p.residual_stride = residual.stride(0);
  p.out = out.mutable_data_ptr();
  p.out_stride = width;
  int64_t groups = 0;
  p.gate = checked(operands, "gate", gate, rows, width, groups);
  p.rows_per_group = std::max<int64_t>(1, rows / groups);
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_gated_residual", p);
  else
    spread(rows, grain(width), [&](int64_t begin, int64_t end) { kernels::gated_residual_cpu(p, begin, end); });
  return out;
}

}  // namespace orrery::ops
