#include "ops/frames.h"

#include <ATen/ATen.h>

#include "kernels/frames.h"
#include "ops/dispatch.h"

namespace orrery::ops {
namespace {

void check_sizes(Operands& operands, int64_t in_h, int64_t in_w, int64_t height, int64_t width, bool even) {
  operands.require(
      height > 0 && width > 0 && in_h > 0 && in_w > 0, "size", "must be a picture's", "at least 1x1",
      std::to_string(in_h) + "x" + std::to_string(in_w) + " to " + std::to_string(height) + "x" + std::to_string(width));
  operands.require(!even || (height % 2 == 0 && width % 2 == 0), "size", "must be even for NV12", "even height and width",
                   std::to_string(height) + "x" + std::to_string(width));
}

void run(const Operands& operands, const kernels::Frames& p) {
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_frames", p);
  else
    spread(p.frames * kernels::squares_of_frame(p), 4096,
           [&](int64_t begin, int64_t end) { kernels::frames_cpu(p, begin, end); });
}

kernels::Frames sized(int64_t frames, int64_t in_h, int64_t in_w, int64_t height, int64_t width) {
  kernels::Frames p;
  p.frames = frames;
  p.in_h = in_h;
  p.in_w = in_w;
  p.out_h = height;
  p.out_w = width;
  return p;
}

at::Tensor to_numbers(const Operands& operands, kernels::Frames p, const at::Tensor& bytes, at::ScalarType dtype) {
  const at::Tensor numbers = at::empty({3, p.frames, p.out_h, p.out_w}, bytes.options().dtype(dtype)).transpose(0, 1);
  p.type = number_of(dtype);
  p.bytes = const_cast<void*>(bytes.const_data_ptr());
  p.numbers = numbers.mutable_data_ptr();
  p.frame = numbers.stride(0);
  p.plane = numbers.stride(1);
  run(operands, p);
  return numbers;
}

// Checks the numbers of the way back, and puts them into the kernel's terms.
kernels::Frames from_numbers(Operands& operands, const at::Tensor& numbers, int64_t height, int64_t width, bool even) {
  operands.first("numbers", numbers, {at::kFloat, at::kBFloat16, at::kHalf})
      .also("numbers", numbers, numbers.scalar_type(), {-1, 3, -1, -1})
      .rows("numbers", numbers)
      .require(numbers.size(2) <= 1 || numbers.stride(2) == numbers.size(3), "numbers",
               "must have the rows of a plane side by side", "a stride of " + std::to_string(numbers.size(3)),
               std::to_string(numbers.stride(2)));
  check_sizes(operands, numbers.size(2), numbers.size(3), height, width, even);
  kernels::Frames p = sized(numbers.size(0), numbers.size(2), numbers.size(3), height, width);
  p.type = number_of(numbers.scalar_type());
  p.to_numbers = false;
  p.numbers = const_cast<void*>(numbers.const_data_ptr());
  p.frame = numbers.stride(0);
  p.plane = numbers.stride(1);
  return p;
}

}  // namespace

at::Tensor frames_from_rgb(const at::Tensor& rgb, int64_t height, int64_t width, at::ScalarType dtype) {
  Operands operands("frames_from_rgb");
  operands.first("rgb", rgb, {at::kByte}).also("rgb", rgb, at::kByte, {-1, -1, -1, 3}).contiguous("rgb", rgb);
  check_sizes(operands, rgb.size(1), rgb.size(2), height, width, false);
  return to_numbers(operands, sized(rgb.size(0), rgb.size(1), rgb.size(2), height, width), rgb, dtype);
}

at::Tensor frames_from_nv12(const at::Tensor& luma, const at::Tensor& chroma, Colours colours, int64_t height, int64_t width,
                            at::ScalarType dtype) {
  Operands operands("frames_from_nv12");
  operands.first("luma", luma, {at::kByte}).also("luma", luma, at::kByte, {-1, -1, -1}).contiguous("luma", luma);
  const int64_t h = luma.size(1), w = luma.size(2);
  operands.require(h % 2 == 0 && w % 2 == 0, "luma", "must have even sides", "even height and width",
                   std::to_string(h) + "x" + std::to_string(w));
  operands.also("chroma", chroma, at::kByte, {luma.size(0), h / 2, w / 2, 2}).contiguous("chroma", chroma);
  check_sizes(operands, h, w, height, width, false);
  kernels::Frames p = sized(luma.size(0), h, w, height, width);
  p.nv12 = true;
  p.bt709 = colours == Colours::kBt709 || colours == Colours::kBt709Full;
  p.full_range = colours == Colours::kBt601Full || colours == Colours::kBt709Full;
  p.chroma = const_cast<void*>(chroma.const_data_ptr());
  return to_numbers(operands, p, luma, dtype);
}

at::Tensor frames_to_rgb(const at::Tensor& numbers, int64_t height, int64_t width) {
  Operands operands("frames_to_rgb");
  kernels::Frames p = from_numbers(operands, numbers, height, width, false);
  const at::Tensor rgb = at::empty({p.frames, height, width, 3}, numbers.options().dtype(at::kByte));
  p.bytes = rgb.mutable_data_ptr();
  run(operands, p);
  return rgb;
}

std::pair<at::Tensor, at::Tensor> frames_to_nv12(const at::Tensor& numbers, Colours colours, int64_t height, int64_t width) {
  Operands operands("frames_to_nv12");
  kernels::Frames p = from_numbers(operands, numbers, height, width, true);
  const at::Tensor luma = at::empty({p.frames, height, width}, numbers.options().dtype(at::kByte));
  const at::Tensor chroma = at::empty({p.frames, height / 2, width / 2, 2}, luma.options());
  p.nv12 = true;
  p.bt709 = colours == Colours::kBt709 || colours == Colours::kBt709Full;
  p.full_range = colours == Colours::kBt601Full || colours == Colours::kBt709Full;
  p.bytes = luma.mutable_data_ptr();
  p.chroma = chroma.mutable_data_ptr();
  run(operands, p);
  return {luma, chroma};
}

}  // namespace orrery::ops
