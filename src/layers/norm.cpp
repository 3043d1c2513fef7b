#include "layers/norm.h"

#include <ATen/ATen.h>

namespace orrery::layers {
namespace {

// [B,N,D] → [B,K,N/K,D], so that rows of a group broadcast over its tokens.
at::Tensor by_groups(const at::Tensor& tokens, int64_t groups) {
  return tokens.view({tokens.size(0), groups, tokens.size(1) / groups, tokens.size(2)});
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& input, const at::Tensor& weight, double eps) {
  const at::Tensor x = input.to(at::kFloat);
  at::Tensor scale = x.square().mean(-1, /*keepdim=*/true).add_(eps).rsqrt_();
  at::Tensor output = x * scale;
  if (weight.defined()) output.mul_(weight.to(at::kFloat));
  return output.to(input.scalar_type());
}

at::Tensor layer_norm(const at::Tensor& input, double eps, const at::Tensor& weight, const at::Tensor& bias) {
  return at::layer_norm(input, {input.size(-1)}, weight, bias, eps);
}

at::Tensor modulate(const at::Tensor& input, const at::Tensor& shift, const at::Tensor& scale) {
  const int64_t groups = shift.size(1);
  at::Tensor output = by_groups(input.contiguous(), groups) * (scale.unsqueeze(2) + 1);
  return output.add_(shift.unsqueeze(2)).view(input.sizes());
}

at::Tensor gated_residual(const at::Tensor& input, at::Tensor update, const at::Tensor& gate) {
  const int64_t groups = gate.size(1);
  by_groups(update, groups).mul_(gate.unsqueeze(2));
  return update.add_(input);
}

}  // namespace orrery::layers
