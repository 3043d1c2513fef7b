#include "layers/rms_norm.h"

#include <ATen/ATen.h>

#include <cmath>

#include "ops/dispatch.h"
#include "ops/modulated_norm.h"
#include "ops/norm_silu.h"

namespace orrery::layers {

namespace {

// What each vector is multiplied by, before gamma; computed in float32 at least.
at::Tensor inverse_rms(const at::Tensor& x) {
  const auto dtype = at::isReducedFloatingType(x.scalar_type()) ? at::kFloat : x.scalar_type();
  const at::Tensor length = at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, true, dtype);
  return length.clamp_min_(1e-12).reciprocal_().mul_(std::sqrt(static_cast<double>(x.size(-1))));
}

// In one pass, on a device that has our kernels; undefined elsewhere. The kernel's epsilon stands under the root of the mean
// of squares: this one keeps a vector of zeros zero, as the bound on its length does.
at::Tensor by_kernel(const at::Tensor& x, const at::Tensor& gamma, bool silu) {
  const int64_t width = x.size(-1);
  if (!ops::on_device_with_kernels(x) || !x.is_contiguous() || width == 0) return {};
  return ops::modulated_norm(x.view({-1, width}), ops::NormKind::kRms, 1e-24 / static_cast<double>(width),
                             gamma.to(at::kFloat).contiguous(), {}, {}, {}, silu)
      .view(x.sizes());
}

}  // namespace

at::Tensor l2_rms_norm(const at::Tensor& x, const at::Tensor& gamma) {
  if (const at::Tensor y = by_kernel(x, gamma, /*silu=*/false); y.defined()) return y;
  const at::Tensor factor = inverse_rms(x);
  return at::mul(x, factor).mul_(gamma.to(factor.scalar_type())).to(x.scalar_type());
}

at::Tensor& l2_rms_norm_(at::Tensor& x, const at::Tensor& gamma) {
  if (const at::Tensor y = by_kernel(x, gamma, /*silu=*/false); y.defined()) return x = y;
  const at::Tensor factor = inverse_rms(x);
  if (factor.scalar_type() != x.scalar_type()) return x.copy_(at::mul(x, factor).mul_(gamma.to(factor.scalar_type())));
  return x.mul_(factor).mul_(gamma.to(x.scalar_type()));
}

namespace {

bool fused(const at::Tensor& x) { return x.device().is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous(); }

}  // namespace

at::Tensor l2_rms_norm_silu(const at::Tensor& x, const at::Tensor& gamma) {
  if (const at::Tensor y = by_kernel(x, gamma, /*silu=*/true); y.defined()) return y;
  at::Tensor y = fused(x) ? at::empty_like(x) : l2_rms_norm(x, gamma);
  if (!fused(x)) return at::silu_(y);
  ops::l2_norm_silu(x, gamma, y);
  return y;
}

at::Tensor& l2_rms_norm_silu_(at::Tensor& x, const at::Tensor& gamma) {
  if (const at::Tensor y = by_kernel(x, gamma, /*silu=*/true); y.defined()) return x = y;
  if (!fused(x)) return at::silu_(l2_rms_norm_(x, gamma));
  ops::l2_norm_silu(x, gamma, x);
  return x;
}

}  // namespace orrery::layers
