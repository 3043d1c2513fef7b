#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace orrery {

/// Throws when `output` holds a NaN or an infinity: Error(kArgument) naming `input_name` where the input already did, else
/// Error(kWeights) naming `what`.
void check_finite(const at::Tensor& output, const at::Tensor& input, const std::string& what, const std::string& input_name);
/// Throws Error(kArgument) unless `indices` are integers in 0 … vocabulary − 1 (any integers where `vocabulary` is 0).
void check_indices(const at::Tensor& indices, int64_t vocabulary);

}  // namespace orrery
