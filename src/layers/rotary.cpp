#include "layers/rotary.h"

#include <ATen/ATen.h>

#include "ops/head_norm.h"

namespace orrery::layers {

Rotary Rotary::to(c10::Device device) const {
  return {cos.to(device), sin.to(device)};
}

at::Tensor rotate(const at::Tensor& heads, const Rotary& rotary, RotaryPairs pairs) {
  const bool plain = heads.is_cpu() && heads.scalar_type() == at::kFloat && heads.dim() == 4 && heads.is_contiguous() &&
                     rotary.cos.scalar_type() == at::kFloat &&
                     rotary.cos.sizes() == at::IntArrayRef({heads.size(1), heads.size(3) / 2});
  if (plain)
    return ops::head_norm(heads, {}, ops::NormedOver::kHead, 0, rotary.cos, rotary.sin, pairs == RotaryPairs::kNeighbours);
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

at::Tensor grid_angles(const at::Tensor& over_t, const at::Tensor& over_h, const at::Tensor& over_w) {
  const int64_t t = over_t.size(0), h = over_h.size(0), w = over_w.size(0);
  return at::cat({over_t.view({t, 1, 1, -1}).expand({t, h, w, -1}), over_h.view({1, h, 1, -1}).expand({t, h, w, -1}),
                  over_w.view({1, 1, w, -1}).expand({t, h, w, -1})},
                 -1)
      .flatten(0, 2);
}

}  // namespace orrery::layers
