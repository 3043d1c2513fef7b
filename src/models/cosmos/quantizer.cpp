#include "models/cosmos/quantizer.h"

#include <ATen/ATen.h>

#include <string>
#include <utility>

#include "ops/dispatch.h"
#include "ops/fsq.h"
#include "orrery/error.h"

namespace orrery::models {

FSQuantizer::FSQuantizer(std::vector<int64_t> levels, c10::Device device) : levels_(std::move(levels)) {
  std::vector<int64_t> basis;
  for (const int64_t level : levels_) {
    basis.push_back(vocabulary_);
    vocabulary_ *= level;
  }
  level_ = at::tensor(levels_, at::kLong).to(device);
  basis_ = at::tensor(basis, at::kLong).to(device);
  half_width_ = level_.div(2, "floor");
  // As the reference computes them, in float32: the widened range keeps the outermost levels reachable, and even counts are
  // shifted by half a level so that they have a code at zero.
  half_range_ = (level_ - 1) * (1 + 1e-3) / 2;
  offset_ = level_.remainder(2).eq(0).to(at::kFloat) * 0.5;
  shift_ = (offset_ / half_range_).atanh();
}

std::pair<at::Tensor, at::Tensor> FSQuantizer::quantize(const at::Tensor& z) const {
  const at::Tensor numbers = z.to(at::kFloat);
  if (ops::on_device_with_kernels(numbers)) {
    const auto [codes, indices] = ops::fsq_quantize(numbers.reshape({-1, level_.numel()}), levels_);
    return {codes.view(z.sizes()), indices.view(z.sizes().slice(0, z.dim() - 1))};
  }
  const at::Tensor bounded = (numbers + shift_).tanh() * half_range_ - offset_;
  const at::Tensor codes = bounded.round() / half_width_;
  return {codes, codes_to_indices(codes)};
}

at::Tensor FSQuantizer::codes_to_indices(const at::Tensor& codes) const {
  // The reference sums in float32 and truncates; rounding gives the same for exact codes, and the right one for others.
  const at::Tensor digits = (codes * half_width_ + half_width_).round().to(at::kLong);
  return (digits * basis_).sum(-1).to(at::kInt);
}

at::Tensor FSQuantizer::indices_to_codes(const at::Tensor& indices) const {
  const at::Tensor wide = indices.to(at::kLong).unsqueeze(-1);
  if (wide.numel() > 0) {
    const int64_t least = wide.min().item<int64_t>(), most = wide.max().item<int64_t>();
    if (least < 0 || most >= vocabulary_) {
      throw Error(ErrorKind::kArgument,
                  {"indices", "are not all in the vocabulary", "0 to " + std::to_string(vocabulary_ - 1),
                   std::to_string(least < 0 ? least : most), ""});
    }
  }
  if (wide.numel() > 0 && ops::on_device_with_kernels(half_range_))
    return ops::fsq_codes(indices.to(at::kInt).flatten(), levels_).unflatten(0, indices.sizes());
  const at::Tensor digits = wide.div(basis_, "floor").remainder(level_);
  return (digits - half_width_).to(at::kFloat) / half_width_;
}

}  // namespace orrery::models
