#pragma once

#include <ATen/core/Tensor.h>

#include "ops/sampler_step.h"

namespace orrery::ops {

/// Draws one token a row of logits [rows, V] (float32, bfloat16 or float16; rows may be apart), int32 [rows]: from
/// softmax(logits / temperature), only the likeliest whose probabilities sum to `top_p`. Row r takes number r of the seed's
/// stream; the same token on every device. −∞ forbids a token; a row without a finite largest
/// logit is an error on the CPU, and token 0 on a GPU. Throws
/// Error(kArgument) naming the operand, for a temperature that is not positive, and for a top_p outside (0, 1].
at::Tensor top_p(const at::Tensor& logits, double temperature, double top_p, const StepNoise& stream);

}  // namespace orrery::ops
