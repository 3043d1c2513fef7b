#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "orrery/export.h"

namespace orrery {

/// Frames as people and FFmpeg see them.
/// Shape letters used in all of orrery: B batch, T frames, H W pixels, t h w latent grid, C channels, L text tokens,
/// N sequence tokens, D width, A action size, V vocabulary, P patch.
struct Video {
  at::Tensor frames;  ///< uint8 [T,H,W,3], RGB, contiguous, on the CPU
  double fps = 0;     ///< frames a second; 0 for a single picture

  /// T, H and W; a Video without frames has T = 0 and no H and W.
  int64_t num_frames() const { return frames.defined() ? frames.size(0) : 0; }
  int64_t height() const { return frames.size(1); }
  int64_t width() const { return frames.size(2); }
};

/// The one place where pictures become network input: uint8 [T,H,W,3] in 0…255 → float32 [1,3,T,H,W] in [-1,1]
/// (x / 127.5 − 1, as the diffusers and Cosmos preprocessors do). Throws Error(kArgument) on another shape or dtype.
ORRERY_API at::Tensor to_input(const Video& video);

/// The one place where network output becomes pictures: float [1,3,T,H,W], or [T,3,H,W] as World::step returns them →
/// uint8 [T,H,W,3]; clamps to [-1,1], then rounds (x + 1) · 127.5 to the nearest integer. Throws Error(kArgument) on another
/// shape or a batch above 1.
ORRERY_API Video to_video(const at::Tensor& sample, double fps);

}  // namespace orrery
