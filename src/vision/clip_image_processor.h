#pragma once

#include <ATen/core/Tensor.h>

#include "orrery/config.h"
#include "orrery/video.h"

namespace orrery::vision {

/// Pictures uint8 [B,H,W,3] as a CLIP encoder takes them, float [B,3,h,w]: the shorter side (or both) brought to `size`, the
/// middle of `crop_size` cut out, scaled and normalised. `config` is preprocessor_config.json; what it does not say is
/// CLIP's default. Where it says `_interpolation` "bicubic" (for original repositories) the whole picture is brought to
/// `size` without antialiasing. Throws Error(kUnsupported) for a resampling or a combination of steps that CLIP's processor
/// is not released with. Source: transformers 5.23.0 models/clip/image_processing_clip.py.
at::Tensor clip_pixels(const Video& pictures, const Config& config);

}  // namespace orrery::vision
