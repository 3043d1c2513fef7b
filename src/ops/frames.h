#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>

namespace orrery::ops {

/// Which colours NV12 bytes mean; in studio range (16 to 235), or in the full range of a byte.
enum class Colours { kBt601, kBt709, kBt601Full, kBt709Full };

/// RGB8 pictures u8 [T,H,W,3] → numbers [T,3,height,width] in −1 … 1 of dtype float32, bfloat16 or float16, resized
/// bilinearly (half-pixel centres, no antialiasing). In memory the frames of a colour lie side by side: its transpose(0, 1)
/// is contiguous. Bytes are contiguous, of numbers the planes alone. All throw Error(kArgument) naming the operand.
at::Tensor frames_from_rgb(const at::Tensor& rgb, int64_t height, int64_t width, at::ScalarType dtype);
/// The same of NV12: luma u8 [T,H,W] and chroma u8 [T,H/2,W/2,2], H and W even.
at::Tensor frames_from_nv12(const at::Tensor& luma, const at::Tensor& chroma, Colours colours, int64_t height, int64_t width,
                            at::ScalarType dtype);
/// The way back: numbers [T,3,H,W], clamped to −1 … 1 and rounded as to_video() rounds (NaN: 0), → RGB8 [T,height,width,3].
at::Tensor frames_to_rgb(const at::Tensor& numbers, int64_t height, int64_t width);
/// To NV12, luma and chroma; the chroma is the mean over its four pixels. height and width are even.
std::pair<at::Tensor, at::Tensor> frames_to_nv12(const at::Tensor& numbers, Colours colours, int64_t height, int64_t width);

}  // namespace orrery::ops
