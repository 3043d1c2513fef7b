#include "layers/norm.h"

#include <ATen/ATen.h>

#include "ops/dispatch.h"
#include "ops/modulated_norm.h"

namespace orrery::layers {
namespace {

// [B,N,D] → [B,K,N/K,D], so that rows of a group broadcast over its tokens.
at::Tensor by_groups(const at::Tensor& tokens, int64_t groups) {
  return tokens.view({tokens.size(0), groups, tokens.size(1) / groups, tokens.size(2)});
}

// [..,D] → [rows,D], as the ops take it: its rows may be apart, the numbers of one may not.
at::Tensor rows_of(const at::Tensor& x) {
  const at::Tensor rows = x.reshape({-1, x.size(-1)});
  return rows.stride(-1) == 1 ? rows : rows.contiguous();
}

at::Tensor plain(const at::Tensor& x) {
  return x.defined() ? x.to(at::kFloat).contiguous() : x;
}

at::Tensor rows_of_floats(const at::Tensor& x) {
  return rows_of(x.to(at::kFloat));
}

bool has_rows(const at::Tensor& x) {
  return x.size(-1) > 0 && ops::on_device_with_kernels(x);
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& input, const at::Tensor& weight, double eps) {
  if (has_rows(input))
    return ops::modulated_norm(rows_of(input), ops::NormKind::kRms, eps, plain(weight)).view(input.sizes());
  const at::Tensor x = input.to(at::kFloat);
  at::Tensor scale = x.square().mean(-1, /*keepdim=*/true).add_(eps).rsqrt_();
  at::Tensor output = x * scale;
  if (weight.defined()) output.mul_(weight.to(at::kFloat));
  return output.to(input.scalar_type());
}

at::Tensor layer_norm(const at::Tensor& input, double eps, const at::Tensor& weight, const at::Tensor& bias) {
  if (has_rows(input))
    return ops::modulated_norm(rows_of(input), ops::NormKind::kLayer, eps, plain(weight), plain(bias)).view(input.sizes());
  return at::layer_norm(input, {input.size(-1)}, weight, bias, eps);
}

at::Tensor modulated_norm(const at::Tensor& input, double eps, const at::Tensor& shift, const at::Tensor& scale) {
  if (has_rows(input))
    return ops::modulated_norm(rows_of(input), ops::NormKind::kLayer, eps, {}, {}, {rows_of_floats(scale), {}},
                               {rows_of_floats(shift), {}})
        .view(input.sizes());
  const int64_t groups = shift.size(1);
  at::Tensor output = by_groups(layer_norm(input, eps).contiguous(), groups) * (scale.unsqueeze(2) + 1);
  return output.add_(shift.unsqueeze(2)).view(input.sizes());
}

at::Tensor gated_residual(const at::Tensor& input, at::Tensor update, const at::Tensor& gate) {
  if (has_rows(input) && update.scalar_type() == input.scalar_type())
    return ops::gated_residual(rows_of(input), rows_of(update), {rows_of_floats(gate), {}}).view(input.sizes());
  const int64_t groups = gate.size(1);
  by_groups(update, groups).mul_(gate.unsqueeze(2));
  return update.add_(input);
}

}  // namespace orrery::layers
