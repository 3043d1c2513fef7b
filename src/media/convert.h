#pragma once

#include <ATen/core/Tensor.h>

#include "orrery/video.h"

namespace orrery {

/// to_input() of frames whose network is on another device: they go there as bytes, and become numbers there where we have a
/// kernel for it.
at::Tensor to_input_on(const Video& video, at::Device device);

}  // namespace orrery
