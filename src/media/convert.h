#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "orrery/video.h"

namespace orrery {

/// to_input() of frames whose network is on another device: they go there as bytes, and become numbers there where we have a
/// kernel for it.
at::Tensor to_input_on(const Video& video, at::Device device);

/// "Byte [3,4]", or "no tensor", for messages.
std::string described(const at::Tensor& tensor);

}  // namespace orrery
