#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "guarded.h"
#include "orrery/error.h"
#include "orrery/video.h"

namespace orrery {
namespace {

std::string describe(const at::Tensor& tensor) {
  if (!tensor.defined()) return "no tensor";
  std::string text = std::string(c10::toString(tensor.scalar_type())) + " [";
  for (int64_t i = 0; i < tensor.dim(); ++i) {
    if (i > 0) text += ',';
    text += std::to_string(tensor.size(i));
  }
  return text += ']';
}

}  // namespace

at::Tensor to_input(const Video& video) try {
  const at::Tensor& frames = video.frames;
  if (!frames.defined() || frames.dim() != 4 || frames.size(3) != 3 || frames.scalar_type() != at::kByte) {
    throw Error(ErrorKind::kArgument, {.place = "to_input", .what = "these are not frames", .expected = "uint8 [T,H,W,3]",
                                       .got = describe(frames)});
  }
  const c10::NoGradGuard guard;
  // [T,H,W,3] → [1,3,T,H,W]
  at::Tensor sample = frames.permute({3, 0, 1, 2}).unsqueeze(0).to(at::kFloat, false, true, at::MemoryFormat::Contiguous);
  return sample.div_(127.5).sub_(1);
} catch (...) {
  rethrow_as_error("to_input");
}

Video to_video(const at::Tensor& sample, double fps) try {
  const bool of_a_world = sample.defined() && sample.dim() == 4;
  const bool one_clip = sample.defined() && (of_a_world || (sample.dim() == 5 && sample.size(0) == 1));
  if (!one_clip || sample.size(1) != 3 || !sample.is_floating_point()) {
    throw Error(ErrorKind::kArgument, {.place = "to_video", .what = "this is not one clip of network output",
                                       .expected = "float [1,3,T,H,W] or [T,3,H,W]", .got = describe(sample)});
  }
  const c10::NoGradGuard guard;
  const at::Tensor clip = (of_a_world ? sample.detach().transpose(0, 1) : sample.detach()[0]).to(at::kCPU, at::kFloat);
  if (!clip.isfinite().all().item<bool>()) {
    throw Error(ErrorKind::kArgument, {.place = "to_video", .what = "the network gave values that are not finite",
                                       .hint = "are the weights whole, and is the input in [-1, 1]?"});
  }
  // [1,3,T,H,W] → [T,H,W,3]
  const at::Tensor frames = clip.clamp(-1, 1).add_(1).mul_(127.5).round_();
  return {frames.permute({1, 2, 3, 0}).to(at::kByte).contiguous(), fps};
} catch (...) {
  rethrow_as_error("to_video");
}

}  // namespace orrery
