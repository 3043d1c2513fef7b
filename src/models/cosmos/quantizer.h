#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace orrery::models {

/// Finite scalar quantisation: each of a code's numbers is rounded to one of few levels; no weights.
/// Source: arXiv 2309.15505; nvidia-cosmos/cosmos-predict1@4ed35faa cosmos_predict1/tokenizer/modules/quantizers.py.
class FSQuantizer {
 public:
  explicit FSQuantizer(std::vector<int64_t> levels, c10::Device device = at::kCPU);

  int64_t vocabulary() const { return vocabulary_; }
  /// Float [...,D] → the nearest codes, in [-1,1], and their indices int32 [...].
  std::pair<at::Tensor, at::Tensor> quantize(const at::Tensor& z) const;
  /// Codes [...,D] → int32 [...]. The first number counts fastest.
  at::Tensor codes_to_indices(const at::Tensor& codes) const;
  /// Integer [...] → codes [...,D]. Throws Error(kArgument) when an index is outside the vocabulary.
  at::Tensor indices_to_codes(const at::Tensor& indices) const;

 private:
  std::vector<int64_t> levels_;
  int64_t vocabulary_ = 1;
  at::Tensor level_, basis_, half_width_;   // int64 [D]
  at::Tensor half_range_, offset_, shift_;  // float [D]
};

}  // namespace orrery::models
