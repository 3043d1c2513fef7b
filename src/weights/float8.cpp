#include <ATen/ATen.h>

#include <algorithm>
#include <iterator>

#include "weights/sources.h"

// Published float8 checkpoints hold each large weight divided by a scale, which lies beside it under one of two names.
namespace orrery::weights_detail {

std::string scale_beside(const std::map<std::string, TensorInfo>& infos, const std::string& name) {
  constexpr std::string_view kWeight = "weight";
  if ((name != kWeight && !name.ends_with(".weight")) || !at::isFloat8Type(infos.at(name).dtype)) return {};
  const std::string layer = name.substr(0, name.size() - kWeight.size());
  for (const char* leaf : {"scale_weight", "weight_scale", "weight_scale_inv"})
    if (infos.contains(layer + leaf)) return layer + leaf;
  return {};
}

at::Tensor scaled(at::Tensor weight, const at::Tensor& scale) {
  std::vector<int64_t> rows(scale.numel() == 1 ? 0 : weight.dim(), 1);
  if (!rows.empty()) rows[0] = scale.numel();
  return weight.mul_(scale.reshape(rows));
}

bool belongs_to_float8(std::string_view name) {
  const size_t dot = name.rfind('.');
  const std::string_view leaf = dot == std::string_view::npos ? name : name.substr(dot + 1);
  constexpr std::string_view kLeaves[] = {"scaled_fp8", "scale_weight", "weight_scale", "scale_input", "input_scale"};
  return std::find(std::begin(kLeaves), std::end(kLeaves), leaf) != std::end(kLeaves);
}

}  // namespace orrery::weights_detail
