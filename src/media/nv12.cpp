#include "orrery/nv12.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "guarded.h"
#include "media/convert.h"
#include "ops/dispatch.h"
#include "ops/frames.h"
#include "orrery/error.h"

namespace orrery {
namespace {

ops::Colours colours_of(const Nv12& frames) {
  if (frames.matrix == ColourMatrix::kBt709) return frames.full_range ? ops::Colours::kBt709Full : ops::Colours::kBt709;
  return frames.full_range ? ops::Colours::kBt601Full : ops::Colours::kBt601;
}

// [T,3,H,W] in −1 … 1 where the planes lie.
at::Tensor numbers_of(const at::Tensor& luma, const at::Tensor& chroma, ops::Colours colours) {
  return ops::frames_from_nv12(luma.contiguous(), chroma.contiguous(), colours, luma.size(1), luma.size(2), at::kFloat)
      .clamp_(-1, 1);
}

void check(const Nv12& frames, const char* place) {
  const auto fits = [](const at::Tensor& plane, int64_t dims) {
    return plane.defined() && plane.dim() == dims && plane.scalar_type() == at::kByte;
  };
  const at::Tensor &luma = frames.luma, &chroma = frames.chroma;
  if (!fits(luma, 3) || !fits(chroma, 4) || luma.device() != chroma.device() || luma.size(1) % 2 != 0 ||
      luma.size(2) % 2 != 0 ||
      chroma.sizes() != at::IntArrayRef({luma.size(0), luma.size(1) / 2, luma.size(2) / 2, int64_t{2}}))
    throw Error(ErrorKind::kArgument, {.place = place,
                                       .what = "these are not frames in NV12",
                                       .expected = "luma uint8 [T,H,W] with H and W even, and chroma uint8 [T,H/2,W/2,2] on "
                                                   "the same device",
                                       .got = described(luma) + " and " + described(chroma)});
}

}  // namespace

Video to_video(const Nv12& frames) try {
  check(frames, "to_video");
  const c10::NoGradGuard guard;
  const at::Tensor &luma = frames.luma, &chroma = frames.chroma;
  at::Tensor rgb = at::empty({luma.size(0), luma.size(1), luma.size(2), 3}, at::kByte);
  const bool there = luma.is_cpu() || ops::on_device_with_kernels(at::empty({0}, luma.options().dtype(at::kFloat)));
  // A frame at a time: the numbers in between are eight times the bytes.
  for (int64_t t = 0; t < luma.size(0) && rgb.numel() > 0; ++t) {
    const auto frame = [&](const at::Tensor& plane) {
      const at::Tensor one = plane.narrow(0, t, 1);
      return there ? one : one.cpu();
    };
    const at::Tensor numbers = numbers_of(frame(luma), frame(chroma), colours_of(frames));
    rgb.narrow(0, t, 1).copy_(ops::frames_to_rgb(numbers, luma.size(1), luma.size(2)));
  }
  return {rgb, frames.fps};
} catch (...) {
  rethrow_as_error("to_video");
}

at::Tensor to_input(const Nv12& frames, at::Device device) try {
  check(frames, "to_input");
  const c10::NoGradGuard guard;
  const auto& [luma, chroma, matrix, full_range, fps] = frames;
  if (luma.numel() == 0) return at::empty({1, 3, luma.size(0), luma.size(1), luma.size(2)}, at::TensorOptions(device));
  const bool there = ops::on_device_with_kernels(at::empty({0}, at::TensorOptions(device)));
  const at::Device work = there ? device : at::Device(at::kCPU);
  const at::Tensor numbers = numbers_of(luma.to(work), chroma.to(work), colours_of(frames));
  return numbers.transpose(0, 1).unsqueeze(0).to(device);  // [1,3,T,H,W]
} catch (...) {
  rethrow_as_error("to_input");
}

}  // namespace orrery
