#include "fit.h"

#include <ATen/ATen.h>

namespace orrery {
namespace {

int64_t fitting_frames(const CodecSpec& spec, int64_t frames, FitMode mode) {
  while (frames > 0 && !spec.takes_frames(frames)) frames += mode == FitMode::kPad ? 1 : -1;
  return frames;
}

int64_t fitting_side(int64_t side, int64_t stride, FitMode mode) {
  return (mode == FitMode::kPad ? side + stride - 1 : side) / stride * stride;
}

// Cuts a dimension to `size`, or repeats its last slice up to it.
at::Tensor resized(const at::Tensor& frames, int64_t dim, int64_t size) {
  const int64_t have = frames.size(dim);
  if (size <= have) return frames.narrow(dim, 0, size);
  return at::cat({frames, frames.narrow(dim, have - 1, 1).repeat_interleave(size - have, dim)}, dim);
}

}  // namespace

Video fitted(const Video& video, const CodecSpec& spec, FitMode mode) {
  if (video.num_frames() > 0 && mode != FitMode::kError) {
    const int64_t frames = fitting_frames(spec, video.num_frames(), mode);
    const int64_t height = fitting_side(video.height(), spec.spatial_stride, mode);
    const int64_t width = fitting_side(video.width(), spec.spatial_stride, mode);
    if (frames > 0 && height > 0 && width > 0)
      return {resized(resized(resized(video.frames, 0, frames), 1, height), 2, width).contiguous(), video.fps};
  }
  if (video.num_frames() > 0) spec.check_size(video.height(), video.width());
  spec.latent_frames(video.num_frames());
  return video;
}

}  // namespace orrery
