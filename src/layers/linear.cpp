#include "layers/linear.h"

#include <ATen/ATen.h>

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

}  // namespace

Linear::Linear(const Weights& weights, int64_t in_features, int64_t out_features, bool bias) {
  const Weights stored = weights.as_stored();
  weight_ = stored.get("weight", {out_features, in_features});
  if (bias) bias_ = stored.get("bias", {out_features});
}

at::Tensor Linear::operator()(const at::Tensor& input) const {
  const at::Tensor bias = bias_.defined() ? bias_.to(input.scalar_type()) : bias_;
  if (weight_.scalar_type() == input.scalar_type()) return at::linear(input, weight_, bias);
  at::Tensor output = multiply_expanding(input, weight_);
  return bias.defined() ? output.add_(bias) : output;
}

Linear Linear::widened() const {
  Linear wide = *this;
  wide.weight_ = weight_.to(at::kFloat);
  if (bias_.defined()) wide.bias_ = bias_.to(at::kFloat);
  return wide;
}

}  // namespace orrery::layers
