#pragma once

#include <ATen/core/Tensor.h>

namespace orrery::ops {

/// Over which numbers of a token a norm of queries or keys takes its mean.
enum class NormedOver { kHead, kAllHeads };

/// x / sqrt(mean(x²) + eps) · weight for heads [B,N,heads,D], then each pair of channels turned by its token's angle, in one
/// pass. `weight` is [D] or [heads · D] as `over` says, or undefined: no norm. `cos` and `sin` are [N, D/2], or undefined:
/// no turn. `neighbours`: channels 2i and 2i + 1 turn together, else i and i + D/2. D is even where something turns. float32
/// on the CPU, contiguous x; returns a tensor like x. Throws Error(kArgument) on other shapes.
at::Tensor head_norm(const at::Tensor& x, const at::Tensor& weight, NormedOver over, double eps, const at::Tensor& cos,
                     const at::Tensor& sin, bool neighbours);

/// The tanh form of GELU, written over x where that is contiguous float32 on the CPU; returns the result.
at::Tensor gelu_tanh(at::Tensor x);

}  // namespace orrery::ops
