#pragma once

#include <ATen/core/Tensor.h>

namespace orrery::ops {

/// softmax(q kᵀ / √D) v for heads [B,N,heads,D] with q and k rounded to int8, one scale a token and head, k after its mean
/// over the tokens is taken off (which the softmax does not see). About two significant digits: measure it on the model
/// before using it. bfloat16, float16 or, on the CPU, float32; k and v share a number of tokens, at least 1; N and B may be
/// strided. On the GPU D is 64 or 128. A row of q that is not finite gives NaN, one of k everywhere. Returns [B,N,heads,D].
/// Throws Error(kArgument) naming the operand. Source: Zhang et al., "SageAttention", 2024.
at::Tensor int8_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value);

}  // namespace orrery::ops
