#pragma once

#include <cstdint>

#include "kernels/common/numbers.h"

#ifdef __CUDACC__
#define ORRERY_UNROLL _Pragma("unroll")
#else
#define ORRERY_UNROLL
#endif

namespace orrery::kernels {

/// Moves between pixels [B, C, T, h·ps, w·ps], those of a row side by side, and patches [B, C, pt, ps, ps, t, h, w] of any
/// strides: pixel (un)shuffle in the layout that the network wants, or, with `haar` and sides of 2 (pt 1 or 2), the
/// orthonormal Haar transform, whose kt, ky and kx count low and high of each axis. T = t·pt − lead: a clip's first frame
/// stands for the `lead` frames before it too, and on the way back those are left out.
struct Patch {
  Number type = Number::kFloat32;
  bool to_pixels = false, haar = false;
  int pt = 1, ps = 2, lead = 0;
  int64_t batch = 0, channels = 0, t = 0, h = 0, w = 0;
  int64_t pixel_batch = 0, pixel_channel = 0, pixel_frame = 0, pixel_row = 0;  ///< strides in elements
  int64_t patch_batch = 0, patch_channel = 0, patch_kt = 0, patch_ky = 0, patch_kx = 0, patch_t = 0, patch_h = 0,
          patch_w = 0;
  const void* in = nullptr;
  void* out = nullptr;
};

/// One patch of one channel, cell `cell` of B·C·t·h·w: the body of both kernels.
template <class T>
ORRERY_EVERYWHERE void move_cell(const Patch& p, int64_t cell) {
  const int64_t x = cell % p.w, y = cell / p.w % p.h, frame = cell / (p.w * p.h) % p.t;
  const int64_t channel = cell / (p.w * p.h * p.t) % p.channels, b = cell / (p.w * p.h * p.t) / p.channels;
  const int64_t first_patch =
      b * p.patch_batch + channel * p.patch_channel + frame * p.patch_t + y * p.patch_h + x * p.patch_w;
  const int64_t first_pixel = b * p.pixel_batch + channel * p.pixel_channel + y * p.ps * p.pixel_row + x * p.ps;
  const int64_t first_frame = frame * p.pt - p.lead;
  const T* in = static_cast<const T*>(p.in);
  T* out = static_cast<T*>(p.out);
  if (!p.haar) {
    for (int kt = 0; kt < p.pt; ++kt) {
      const int64_t f = first_frame + kt, of_frame = first_pixel + (f < 0 ? 0 : f) * p.pixel_frame;
      if (p.to_pixels && f < 0) continue;
      for (int ky = 0; ky < p.ps; ++ky)
        for (int kx = 0; kx < p.ps; ++kx) {
          const int64_t pixel = of_frame + ky * p.pixel_row + kx;
          const int64_t patch = first_patch + kt * p.patch_kt + ky * p.patch_ky + kx * p.patch_kx;
          p.to_pixels ? out[pixel] = in[patch] : out[patch] = in[pixel];
        }
    }
    return;
  }
  const auto pixel_of = [&](int k) {
    const int64_t f = first_frame + (k >> 2);
    return first_pixel + (f < 0 ? 0 : f) * p.pixel_frame + (k >> 1 & 1) * p.pixel_row + (k & 1);
  };
  const auto patch_of = [&](int k) {
    return first_patch + (k >> 2) * p.patch_kt + (k >> 1 & 1) * p.patch_ky + (k & 1) * p.patch_kx;
  };
  float values[8];  // in registers, which is why the loops must be unrolled
  ORRERY_UNROLL
  for (int k = 0; k < 8; ++k) values[k] = k < 4 * p.pt ? to_float(in[p.to_pixels ? patch_of(k) : pixel_of(k)]) : 0.0f;
  // One axis after the other; the transform is its own inverse.
  ORRERY_UNROLL
  for (int axis = 1; axis < 8; axis *= 2) {
    ORRERY_UNROLL
    for (int k = 0; k < 8; ++k) {
      if (k & axis || (axis == 4 && p.pt == 1)) continue;
      const float low = values[k], high = values[k | axis];
      values[k] = (low + high) * 0.70710678f;
      values[k | axis] = (low - high) * 0.70710678f;
    }
  }
  ORRERY_UNROLL
  for (int k = 0; k < 8; ++k) {
    if (k >= 4 * p.pt || (p.to_pixels && first_frame + (k >> 2) < 0)) continue;
    out[p.to_pixels ? pixel_of(k) : patch_of(k)] = from_float<T>(values[k]);
  }
}

/// Cells [begin, end) on the CPU.
void patch_cpu(const Patch& p, int64_t begin, int64_t end);

}  // namespace orrery::kernels

/// On the GPU; the CUDA error, 0 if there is none.
extern "C" int orrery_cuda_patch(const orrery::kernels::Patch* p, void* stream);
