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

// Whole numbers -127 … 127 and the scale [out] that makes each row of them the weight again. In blocks of rows, for memory's
// sake. One infinity would make its whole row zero or NaN.
std::pair<at::Tensor, at::Tensor> to_int8(const at::Tensor& weight) {
  at::Tensor whole = at::empty(weight.sizes(), weight.options().dtype(at::kChar));
  at::Tensor scales = at::empty({weight.size(0)}, weight.options().dtype(at::kFloat));
  if (weight.is_meta()) return {whole, scales};
  const int64_t block = std::max<int64_t>(1, kExpandedElements / weight.size(1));
  for (int64_t start = 0; start < weight.size(0); start += block) {
    const int64_t count = std::min(block, weight.size(0) - start);
    const at::Tensor rows = weight.narrow(0, start, count).to(at::kFloat);
    const at::Tensor scale = rows.abs().amax(1).div_(127).clamp_min_(1e-30);
    if (!scale.isfinite().all().item<bool>())
      throw Error(ErrorKind::kWeights,
                  {.place = "weight [" + std::to_string(weight.size(0)) + ", " + std::to_string(weight.size(1)) + "]",
                   .what = "holds an infinity, which has no int8 form",
                   .expected = "finite numbers",
                   .hint = "run it as stored (without --weights int8)"});
    whole.narrow(0, start, count).copy_((rows / scale.unsqueeze(1)).round_());
    scales.narrow(0, start, count).copy_(scale);
  }
  return {whole, scales};
}

}  // namespace

Linear::Linear(const Weights& weights, int64_t in_features, int64_t out_features, bool bias, WeightForm form) {
  const Weights stored = weights.as_stored();
  weight_ = stored.get("weight", {out_features, in_features});
  if (bias) bias_ = stored.get("bias", {out_features});
  if (form == WeightForm::kStored) return;
  const auto before = static_cast<int64_t>(weight_.nbytes());
  *this = resident(form);
  weights.kept_in_another_form(static_cast<int64_t>(weight_.nbytes() + (scales_.defined() ? scales_.nbytes() : 0)) - before);
}

WeightForm weight_form(const Config& config) {
  return static_cast<WeightForm>(config.get<int64_t>("weights_in_memory", static_cast<int64_t>(WeightForm::kStored)));
}

Linear Linear::resident(WeightForm form) const {
  Linear other = *this;
  if (!defined()) return other;
  switch (form) {
    case WeightForm::kStored: break;
    case WeightForm::kFloat32: other = widened(); break;
    // A copy even where the file holds bfloat16: a map's small pages are read more slowly than memory of one's own.
    case WeightForm::kBFloat16: other.weight_ = weight_.to(at::kBFloat16, /*non_blocking=*/false, /*copy=*/true); break;
    case WeightForm::kInt8: std::tie(other.weight_, other.scales_) = to_int8(weight_); break;
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
