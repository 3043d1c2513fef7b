#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "guarded.h"
#include "media/convert.h"
#include "ops/dispatch.h"
#include "ops/frames.h"
#include "orrery/error.h"
#include "orrery/video.h"

namespace orrery {

std::string described(const at::Tensor& tensor) {
  if (!tensor.defined()) return "no tensor";
  std::string text = std::string(c10::toString(tensor.scalar_type())) + " [";
  for (int64_t i = 0; i < tensor.dim(); ++i) {
    if (i > 0) text += ',';
    text += std::to_string(tensor.size(i));
  }
  return text += ']';
}

namespace {

const at::Tensor& checked(const Video& video) {
  const at::Tensor& frames = video.frames;
  if (!frames.defined() || frames.dim() != 4 || frames.size(3) != 3 || frames.scalar_type() != at::kByte) {
    throw Error(ErrorKind::kArgument, {.place = "to_input", .what = "these are not frames", .expected = "uint8 [T,H,W,3]",
                                       .got = described(frames)});
  }
  return frames;
}

void require_finite(const at::Tensor& sample) {
  if (sample.isfinite().all().item<bool>()) return;
  throw Error(ErrorKind::kArgument, {.place = "to_video", .what = "the network gave values that are not finite",
                                     .hint = "are the weights whole, and is the input in [-1, 1]?"});
}

}  // namespace

at::Tensor to_input(const Video& video) try {
  const at::Tensor& frames = checked(video);
  const c10::NoGradGuard guard;
  // [T,H,W,3] → [1,3,T,H,W]
  at::Tensor sample = frames.permute({3, 0, 1, 2}).unsqueeze(0).to(at::kFloat, false, true, at::MemoryFormat::Contiguous);
  return sample.div_(127.5).sub_(1);
} catch (...) {
  rethrow_as_error("to_input");
}

at::Tensor to_input_on(const Video& video, at::Device device) {
  const at::Tensor frames = checked(video);
  const c10::NoGradGuard guard;
  if (frames.numel() == 0 || !ops::on_device_with_kernels(at::empty({0}, at::TensorOptions(device))))
    return to_input(video).to(device);
  const at::Tensor numbers = ops::frames_from_rgb(frames.to(device).contiguous(), frames.size(1), frames.size(2), at::kFloat);
  return numbers.transpose(0, 1).unsqueeze(0);  // [1,3,T,H,W]
}

Video to_video(const at::Tensor& sample, double fps) try {
  const bool of_a_world = sample.defined() && sample.dim() == 4;
  const bool one_clip = sample.defined() && (of_a_world || (sample.dim() == 5 && sample.size(0) == 1));
  if (!one_clip || sample.size(1) != 3 || !sample.is_floating_point()) {
    throw Error(ErrorKind::kArgument, {.place = "to_video", .what = "this is not one clip of network output",
                                       .expected = "float [1,3,T,H,W] or [T,3,H,W]", .got = described(sample)});
  }
  const c10::NoGradGuard guard;
  const at::Tensor frames = of_a_world ? sample.detach() : sample.detach()[0].transpose(0, 1);  // [T,3,H,W]
  if (frames.numel() > 0 && frames.stride(3) == 1 && frames.stride(2) == frames.size(3) && ops::on_device_with_kernels(frames)) {
    require_finite(frames);  // where they are; bytes alone come from there
    return {ops::frames_to_rgb(frames, frames.size(2), frames.size(3)).cpu(), fps};
  }
  const at::Tensor clip = frames.to(at::kCPU, at::kFloat);
  require_finite(clip);
  // [T,3,H,W] → [T,H,W,3]
  const at::Tensor rounded = clip.clamp(-1, 1).add_(1).mul_(127.5).round_();
  return {rounded.permute({0, 2, 3, 1}).to(at::kByte).contiguous(), fps};
} catch (...) {
  rethrow_as_error("to_video");
}

}  // namespace orrery
