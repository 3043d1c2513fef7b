#pragma once

#include <ATen/core/Tensor.h>

#include "orrery/export.h"
#include "orrery/video.h"

namespace orrery {

/// By which standard colours were turned into luma and chroma: BT.601 (small pictures, most webcams), BT.709 (HD).
enum class ColourMatrix { kBt601, kBt709 };

/// Frames as cameras and hardware decoders (NVDEC, V4L2, VAAPI) deliver them: a plane of luma, and one in which the two
/// chroma bytes of each square of 2x2 pixels lie side by side. The planes lie on one device, the CPU or any other, and
/// belong to the caller; rows may be farther apart than they are long (a decoder's pitch).
struct Nv12 {
  at::Tensor luma;    ///< uint8 [T,H,W], H and W even
  at::Tensor chroma;  ///< uint8 [T,H/2,W/2,2]: Cb, Cr
  ColourMatrix matrix = ColourMatrix::kBt709;
  bool full_range = false;  ///< bytes 0 … 255, as JPEG has them; else luma 16 … 235, chroma 16 … 240, as video has them
  double fps = 0;           ///< frames a second; 0 for a single picture
};

/// The same frames as RGB on the CPU, each square of pixels in its one chroma; what lies outside of RGB's range is cut off,
/// as every player does. FFmpeg's swscale, which smooths chroma from row to row and counts in whole numbers, gives the same
/// but for a level or two where colours do not jump. Throws Error(kArgument) on another shape or dtype, or planes of two
/// devices.
ORRERY_API Video to_video(const Nv12& frames);

/// The same frames as network input on `device`, float32 [1,3,T,H,W] in [-1,1], without rounding to 8 bits in between. The
/// bytes go there as they are, half of what RGB takes, and become numbers there where we have a kernel for it. Throws as
/// to_video().
ORRERY_API at::Tensor to_input(const Nv12& frames, at::Device device = at::kCPU);

}  // namespace orrery
