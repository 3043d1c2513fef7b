#pragma once

#include <ATen/core/Tensor.h>

namespace orrery::layers {

// On a device that has our kernels each of these is one of them; elsewhere LibTorch's operators.

/// x / sqrt(mean(x²) + eps) · weight over the last dimension, in float32 as the references do. `weight` [D] may be undefined.
at::Tensor rms_norm(const at::Tensor& input, const at::Tensor& weight, double eps);

/// (x − mean) / sqrt(var + eps) · weight + bias over the last dimension; `weight` and `bias` [D] may be undefined.
at::Tensor layer_norm(const at::Tensor& input, double eps, const at::Tensor& weight = {}, const at::Tensor& bias = {});

/// layer_norm(x) · (1 + scale) + shift, where shift and scale hold one row for each of K groups of tokens.
/// x [B,N,D], shift and scale [B,K,D] with N a multiple of K: one a sample (K = 1), a latent frame (K = t) or a token (K = N).
at::Tensor modulated_norm(const at::Tensor& input, double eps, const at::Tensor& shift, const at::Tensor& scale);

/// x + gate · update, the gate grouped as in modulated_norm(). `update` is used up.
at::Tensor gated_residual(const at::Tensor& input, at::Tensor update, const at::Tensor& gate);

}  // namespace orrery::layers
