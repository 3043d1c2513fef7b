#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "orrery/token_dynamics.h"

namespace orrery::sampling {

/// See orrery::sample_tokens(); the sampling has been checked.
at::Tensor sample_tokens(const at::Tensor& logits, const TokenSampling& sampling, int64_t position);

}  // namespace orrery::sampling
