#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/common/numbers.h"

namespace orrery::kernels {

/// Between pictures of bytes (RGB8, or NV12 with BT.601 or BT.709 in studio or full range) and planes of numbers [T,3,H,W]
/// in −1 … 1, resized on the way by bilinear interpolation (half-pixel centres, no antialiasing; sizes that are equal are
/// copied).
struct Frames {
  Number type = Number::kFloat32;  ///< of the numbers
  bool to_numbers = true;
  bool nv12 = false;
  bool bt709 = true;
  bool full_range = false;
  int64_t frames = 0, in_h = 0, in_w = 0, out_h = 0, out_w = 0;
  void* bytes = nullptr;         ///< RGB8 [T,h,w,3], or NV12 luma [T,h,w]
  void* chroma = nullptr;        ///< NV12 [T,h/2,w/2,2]: Cb, Cr
  void* numbers = nullptr;       ///< [T,3,H,W], planes of H·W side by side
  int64_t frame = 0, plane = 0;  ///< strides of T and of the colours, in elements
};

struct Colour {
  float r, g, b;  ///< 0 … 255
};

ORRERY_EVERYWHERE uint8_t byte_of(float value) {
  const float kept = value > 0 ? (value < 255 ? value : 255.0f) : 0.0f;  // NaN: 0
  return static_cast<uint8_t>(static_cast<int>(rintf(kept)));            // halves to even, as LibTorch rounds
}

/// One input pixel as RGB.
template <class T>
ORRERY_EVERYWHERE Colour pixel_at(const Frames& p, int64_t frame, int64_t y, int64_t x) {
  if (!p.to_numbers) {
    const T* numbers = static_cast<const T*>(p.numbers) + frame * p.frame + y * p.in_w + x;
    return {(to_float(numbers[0]) + 1) * 127.5f, (to_float(numbers[p.plane]) + 1) * 127.5f,
            (to_float(numbers[2 * p.plane]) + 1) * 127.5f};
  }
  const auto* bytes = static_cast<const uint8_t*>(p.bytes);
  const int64_t at = (frame * p.in_h + y) * p.in_w + x;
  if (!p.nv12)
    return {static_cast<float>(bytes[3 * at]), static_cast<float>(bytes[3 * at + 1]), static_cast<float>(bytes[3 * at + 2])};
  const uint8_t* chroma =
      static_cast<const uint8_t*>(p.chroma) + ((frame * (p.in_h / 2) + y / 2) * (p.in_w / 2) + x / 2) * 2;
  const float red = p.bt709 ? 0.2126f : 0.299f, blue = p.bt709 ? 0.0722f : 0.114f;
  const float luma = p.full_range ? bytes[at] : (bytes[at] - 16.0f) * (255.0f / 219);
  const float wide = p.full_range ? 2.0f : 255.0f / 112, cb = (chroma[0] - 128.0f) * wide, cr = (chroma[1] - 128.0f) * wide;
  const float r = luma + cr * (1 - red), b = luma + cb * (1 - blue);
  return {r, (luma - red * r - blue * b) / (1 - red - blue), b};
}

/// The input under output pixel (y, x).
template <class T>
ORRERY_EVERYWHERE Colour resized_at(const Frames& p, int64_t frame, int64_t y, int64_t x) {
  if (p.in_h == p.out_h && p.in_w == p.out_w) return pixel_at<T>(p, frame, y, x);
  float fy = (static_cast<float>(y) + 0.5f) * (static_cast<float>(p.in_h) / static_cast<float>(p.out_h)) - 0.5f;
  float fx = (static_cast<float>(x) + 0.5f) * (static_cast<float>(p.in_w) / static_cast<float>(p.out_w)) - 0.5f;
  fy = fy < 0 ? 0 : fy;
  fx = fx < 0 ? 0 : fx;
  const auto y0 = static_cast<int64_t>(fy), x0 = static_cast<int64_t>(fx);
  const int64_t y1 = y0 + 1 < p.in_h ? y0 + 1 : p.in_h - 1, x1 = x0 + 1 < p.in_w ? x0 + 1 : p.in_w - 1;
  const float v = fy - static_cast<float>(y0), u = fx - static_cast<float>(x0);
  const Colour a = pixel_at<T>(p, frame, y0, x0), b = pixel_at<T>(p, frame, y0, x1), c = pixel_at<T>(p, frame, y1, x0),
               d = pixel_at<T>(p, frame, y1, x1);
  const float wa = (1 - v) * (1 - u), wb = (1 - v) * u, wc = v * (1 - u), wd = v * u;
  return {wa * a.r + wb * b.r + wc * c.r + wd * d.r, wa * a.g + wb * b.g + wc * c.g + wd * d.g,
          wa * a.b + wb * b.b + wc * c.b + wd * d.b};
}

/// One square of 2x2 output pixels, which share their chroma in NV12: the body of both kernels.
template <class T>
ORRERY_EVERYWHERE void convert_square(const Frames& p, int64_t frame, int64_t square_y, int64_t square_x) {
  float cb = 0, cr = 0;
  const float red = p.bt709 ? 0.2126f : 0.299f, blue = p.bt709 ? 0.0722f : 0.114f;
  for (int i = 0; i < 4; ++i) {
    const int64_t y = 2 * square_y + i / 2, x = 2 * square_x + i % 2;
    if (y >= p.out_h || x >= p.out_w) continue;
    const Colour c = resized_at<T>(p, frame, y, x);
    if (p.to_numbers) {
      T* numbers = static_cast<T*>(p.numbers) + frame * p.frame + y * p.out_w + x;
      numbers[0] = from_float<T>(c.r / 127.5f - 1);
      numbers[p.plane] = from_float<T>(c.g / 127.5f - 1);
      numbers[2 * p.plane] = from_float<T>(c.b / 127.5f - 1);
      continue;
    }
    auto* bytes = static_cast<uint8_t*>(p.bytes);
    const int64_t at = (frame * p.out_h + y) * p.out_w + x;
    if (p.nv12) {
      const float luma = red * c.r + (1 - red - blue) * c.g + blue * c.b;
      bytes[at] = byte_of(p.full_range ? luma : luma * (219.0f / 255) + 16);
      const float quarter = p.full_range ? 0.125f : 28.0f / 255;  // of a half, or of 112 / 255
      cb += (c.b - luma) / (1 - blue) * quarter;
      cr += (c.r - luma) / (1 - red) * quarter;
    } else {
      bytes[3 * at] = byte_of(c.r);
      bytes[3 * at + 1] = byte_of(c.g);
      bytes[3 * at + 2] = byte_of(c.b);
    }
  }
  if (p.to_numbers || !p.nv12) return;
  uint8_t* chroma = static_cast<uint8_t*>(p.chroma) + ((frame * (p.out_h / 2) + square_y) * (p.out_w / 2) + square_x) * 2;
  chroma[0] = byte_of(cb + 128);
  chroma[1] = byte_of(cr + 128);
}

ORRERY_EVERYWHERE int64_t squares_of_frame(const Frames& p) {
  return ((p.out_h + 1) / 2) * ((p.out_w + 1) / 2);
}

/// Squares [begin, end) of all frames, frame by frame, on the CPU.
void frames_cpu(const Frames& p, int64_t begin, int64_t end);

}  // namespace orrery::kernels

/// On the GPU; the CUDA error, 0 if there is none.
extern "C" int orrery_cuda_frames(const orrery::kernels::Frames* p, void* stream);
