#pragma once

#include <ATen/core/Tensor.h>

#include "orrery/error.h"
#include "orrery/media.h"

namespace orrery::media {

/// uint8 [H,W,3] → [height,width,3], by Pillow's arithmetic: a triangle or a cubic (a = −0.5) as wide as the shrinking,
/// weights in 22-bit fixed point, columns first, rounded to 8 bits between the passes.
at::Tensor resample(const at::Tensor& picture, int64_t height, int64_t width, ResizeFilter filter);

/// uint8 [H,W,3] → the size that the options ask for.
at::Tensor resize_picture(const at::Tensor& picture, const ResizeOptions& options);

}  // namespace orrery::media
