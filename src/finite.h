#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace orrery {

/// Throws when `output` holds a NaN or an infinity: Error(kArgument) naming `input_name` where the input already did, else
/// Error(kWeights) naming `what`.
void check_finite(const at::Tensor& output, const at::Tensor& input, const std::string& what, const std::string& input_name);

}  // namespace orrery
