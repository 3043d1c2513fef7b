#include "layers/linear.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "ops/dispatch.h"
#include "ops/linear_small.h"
#include "ops/matmul.h"
#include "ops/quantized_linear.h"
#include "orrery/error.h"
#include "weights/file.h"

namespace orrery::layers {
namespace {

// Rows expanded at once: 2 MiB of float32, which the second-level cache of a present-day core mostly holds.
constexpr int64_t kExpandedElements = 512 * 1024;

at::Tensor multiply_expanding(const at::Tensor& input, const at::Tensor& weight) {
  const int64_t out_features = weight.size(0), in_features = weight.size(1);
  const at::Tensor rows = input.reshape({-1, in_features});
  at::Tensor output = at::empty({rows.size(0), out_features}, rows.options());
  const int64_t block = std::max<int64_t>(16, kExpandedElements / in_features);
  for (int64_t start = 0; start < out_features; start += block) {
    const int64_t count = std::min(block, out_features - start);
    at::Tensor slice = output.narrow(1, start, count);
    at::mm_out(slice, rows, weight.narrow(0, start, count).to(rows.scalar_type()).t());
  }
  auto shape = input.sizes().vec();
  shape.back() = out_features;
  return output.view(shape);
}

// The weight as whole numbers -127 … 127, or float8 up to its largest number, 448, and the scale [out] that makes each row
// the weight again. In blocks of rows, for memory's sake. One infinity would make its whole row zero or NaN.
std::pair<at::Tensor, at::Tensor> quantized(const at::Tensor& weight, WeightForm form) {
  const bool whole = form == WeightForm::kInt8;
  at::Tensor numbers = at::empty(weight.sizes(), weight.options().dtype(whole ? at::kChar : at::kFloat8_e4m3fn));
  at::Tensor scales = at::empty({weight.size(0)}, weight.options().dtype(at::kFloat));
  if (weight.is_meta()) return {numbers, scales};
  const int64_t block = std::max<int64_t>(1, kExpandedElements / weight.size(1));
  for (int64_t start = 0; start < weight.size(0); start += block) {
    const int64_t count = std::min(block, weight.size(0) - start);
    const at::Tensor rows = weight.narrow(0, start, count).to(at::kFloat);
    const at::Tensor scale = rows.abs().amax(1).div_(whole ? 127 : 448).clamp_min_(1e-30);
    if (!scale.isfinite().all().item<bool>())
      throw Error(ErrorKind::kWeights,
                  {.place = "weight [" + std::to_string(weight.size(0)) + ", " + std::to_string(weight.size(1)) + "]",
                   .what = std::string("holds an infinity, which has no ") + (whole ? "int8" : "float8") + " form",
                   .expected = "finite numbers",
                   .hint = std::string("run it as stored (without --weights ") + (whole ? "int8)" : "fp8)")});
    const at::Tensor scaled = rows / scale.unsqueeze(1);
    numbers.narrow(0, start, count).copy_(whole ? scaled.round() : scaled);
    scales.narrow(0, start, count).copy_(scale);
  }
  return {numbers, scales};
}

}  // namespace

Linear::Linear(const Weights& weights, int64_t in_features, int64_t out_features, bool bias, WeightForm form) {
  std::tie(weight_, scales_) = weights.get_with_scale("weight", {out_features, in_features});
  if (scales_.defined()) scales_ = scales_.expand({out_features}).contiguous();
  if (bias) bias_ = weights.as_stored().get("bias", {out_features});
  if (form == WeightForm::kStored) return;
  const auto before = static_cast<int64_t>(weight_.nbytes());
  *this = resident(form);
  weights.kept_in_another_form(static_cast<int64_t>(weight_.nbytes() + (scales_.defined() ? scales_.nbytes() : 0)) - before);
}

WeightForm weight_form(const Config& config) {
  return static_cast<WeightForm>(config.get<int64_t>("weights_in_memory", static_cast<int64_t>(WeightForm::kStored)));
}

Linear Linear::resident(WeightForm form) const {
  const bool float8 = defined() && weight_.scalar_type() == at::kFloat8_e4m3fn;
  if (!defined() || form == WeightForm::kStored || (form == WeightForm::kFloat8 && float8)) return *this;
  if (scales_.defined()) return widened().resident(form);
  Linear other = *this;
  switch (form) {
    case WeightForm::kStored: break;
    case WeightForm::kFloat32: other = widened(); break;
    // A copy even where the file holds bfloat16: a map's small pages are read more slowly than memory of one's own.
    case WeightForm::kBFloat16: other.weight_ = weight_.to(at::kBFloat16, /*non_blocking=*/false, /*copy=*/true); break;
    case WeightForm::kInt8:
    case WeightForm::kFloat8: std::tie(other.weight_, other.scales_) = quantized(weight_, form); break;
  }
  // What was read to be converted would count beside the result.
  if (weight_.is_cpu() && !other.weight_.is_alias_of(weight_))
    weights_detail::forget_pages({static_cast<const std::byte*>(weight_.const_data_ptr()), weight_.nbytes()});
  return other;
}

at::Tensor Linear::operator()(const at::Tensor& input) const {
  if (ops::takes_linear_small(input, weight_)) {
    at::Tensor few = ops::linear_small(input, weight_);
    if (scales_.defined()) few.mul_(scales_);
    return bias_.defined() ? few.add_(bias_.to(at::kFloat)) : few;
  }
  if (ops::takes_matmul(input, weight_)) return ops::matmul(input, weight_, scales_, bias_);
  const int64_t rows = input.numel() / std::max<int64_t>(1, input.size(-1));
  if (scales_.defined() && rows > 0 && rows <= ops::kQuantizedLinearRows && ops::on_device_with_kernels(input)) {
    auto shape = input.sizes().vec();
    shape.back() = weight_.size(0);
    return ops::quantized_linear(input.reshape({rows, input.size(-1)}), weight_, scales_,
                                 bias_.defined() ? bias_.to(at::kFloat) : bias_)
        .view(shape);
  }
  const at::Tensor bias = bias_.defined() ? bias_.to(input.scalar_type()) : bias_;
  if (weight_.scalar_type() == input.scalar_type()) return at::linear(input, weight_, bias);
  at::Tensor output = multiply_expanding(input, weight_);
  if (scales_.defined()) output.mul_(scales_.to(output.scalar_type()));
  return bias.defined() ? output.add_(bias) : output;
}

Linear Linear::widened() const {
  Linear wide = *this;
  wide.weight_ = weight_.to(at::kFloat);
  if (scales_.defined()) wide.weight_.mul_(std::exchange(wide.scales_, {}).unsqueeze(1));
  if (bias_.defined()) wide.bias_ = bias_.to(at::kFloat);
  return wide;
}

}  // namespace orrery::layers
