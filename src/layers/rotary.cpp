#include "layers/rotary.h"

#include <ATen/ATen.h>

#include "layers/norm.h"
#include "ops/dispatch.h"
#include "ops/head_norm.h"
#include "ops/qk_norm_rope.h"

namespace orrery::layers {
namespace {

// Whether one kernel can normalise and turn these where they lie.
bool fits_kernel(const at::Tensor& heads, const Rotary& rotary) {
  return ops::on_device_with_kernels(heads) && heads.dim() == 4 && heads.size(3) % 4 == 0 && heads.size(3) > 0 &&
         rotary.cos.scalar_type() == at::kFloat && rotary.cos.is_contiguous() && rotary.sin.is_contiguous() &&
         rotary.cos.sizes() == at::IntArrayRef({heads.size(1), heads.size(3) / 2});
}

// As the kernel takes them: the heads of a token side by side, tokens at even places, as in a joint projection.
at::Tensor by_tokens(const at::Tensor& heads) {
  const bool good = heads.stride(3) == 1 && (heads.size(2) == 1 || heads.stride(2) == heads.size(3)) &&
                    heads.stride(0) % 2 == 0 && heads.stride(1) % 2 == 0 && heads.storage_offset() % 2 == 0;
  return good ? heads : heads.clone(at::MemoryFormat::Contiguous);
}

}  // namespace

Rotary Rotary::to(c10::Device device) const {
  return {cos.to(device), sin.to(device)};
}

at::Tensor rotate(const at::Tensor& heads, const Rotary& rotary, RotaryPairs pairs) {
  const bool plain = heads.is_cpu() && heads.scalar_type() == at::kFloat && heads.dim() == 4 && heads.is_contiguous() &&
                     rotary.cos.scalar_type() == at::kFloat &&
                     rotary.cos.sizes() == at::IntArrayRef({heads.size(1), heads.size(3) / 2});
  if (plain)
    return ops::head_norm(heads, {}, ops::NormedOver::kHead, 0, rotary.cos, rotary.sin, pairs == RotaryPairs::kNeighbours);
  if (fits_kernel(heads, rotary))
    return ops::qk_norm_rope(by_tokens(heads), {}, rotary.cos, rotary.sin,
                             {.neighbours = pairs == RotaryPairs::kNeighbours});
  const at::Tensor cos = rotary.cos.unsqueeze(1), sin = rotary.sin.unsqueeze(1);  // [N,1,D/2]
  const int64_t half = heads.size(-1) / 2;
  if (pairs == RotaryPairs::kHalves) {
    const at::Tensor a = heads.narrow(-1, 0, half), b = heads.narrow(-1, half, half);
    return at::cat({a * cos - b * sin, b * cos + a * sin}, -1);
  }
  const at::Tensor paired = heads.unflatten(-1, {half, 2});
  const at::Tensor a = paired.select(-1, 0), b = paired.select(-1, 1);
  return at::stack({a * cos - b * sin, a * sin + b * cos}, -1).flatten(-2);
}

at::Tensor norm_and_rotate(const at::Tensor& heads, const at::Tensor& weight, bool over_all_heads, double eps,
                           const Rotary& rotary, RotaryPairs pairs) {
  if (weight.defined() && fits_kernel(heads, rotary)) {
    const at::Tensor floats = weight.to(at::kFloat).contiguous();
    return ops::qk_norm_rope(
        by_tokens(heads), over_all_heads ? floats.view({heads.size(2), heads.size(3)}) : floats, rotary.cos, rotary.sin,
        {.over_all_heads = over_all_heads, .neighbours = pairs == RotaryPairs::kNeighbours, .epsilon = eps});
  }
  const at::Tensor normed =
      over_all_heads ? rms_norm(heads.flatten(2), weight, eps).view(heads.sizes()) : rms_norm(heads, weight, eps);
  return rotate(normed, rotary, pairs);
}

at::Tensor grid_angles(const at::Tensor& over_t, const at::Tensor& over_h, const at::Tensor& over_w) {
  const int64_t t = over_t.size(0), h = over_h.size(0), w = over_w.size(0);
  return at::cat({over_t.view({t, 1, 1, -1}).expand({t, h, w, -1}), over_h.view({1, h, 1, -1}).expand({t, h, w, -1}),
                  over_w.view({1, 1, w, -1}).expand({t, h, w, -1})},
                 -1)
      .flatten(0, 2);
}

}  // namespace orrery::layers
