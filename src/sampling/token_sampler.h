#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "orrery/token_dynamics.h"

namespace orrery::sampling {

/// See orrery::sample_tokens(); the sampling has been checked.
at::Tensor sample_tokens(const at::Tensor& logits, const TokenSampling& sampling, int64_t position);

/// Whether logits are finite, looked at when it costs nothing: on the CPU at once, on a device, where the host would have to
/// wait, not before finish().
class FiniteLogits {
 public:
  /// Of the token at `position`; positions go up by one. Throws Error(kWeights) on the CPU.
  void add(const at::Tensor& logits, int64_t position);
  /// Throws Error(kWeights) naming the first token whose logits were not.
  void finish();

 private:
  std::vector<at::Tensor> sums_;  // of each token that was not looked at
  int64_t first_ = 0;
};

/// One token for each row, whatever the logits: on a device one that exists even where they are not finite.
at::Tensor draw_tokens(const at::Tensor& logits, const TokenSampling& sampling, int64_t position);

}  // namespace orrery::sampling
