#pragma once

#include <cstdint>

#include "kernels/common/numbers.h"

#ifdef __CUDACC__
#define ORRERY_UNROLL _Pragma("unroll")
#else
#define ORRERY_UNROLL
#endif

namespace orrery::kernels {

/// Moves between pixels [B, C, t·pt, h·ps, w·ps] and patches [B, K·C, t, h, w], K = pt·ps·ps, channel k·C + c for the pixel
/// (kt, ky, kx) of its patch, k = (kt·ps + ky)·ps + kx: pixel (un)shuffle, or, with `haar` and sides of 2 (pt 1 or 2), the
/// orthonormal Haar transform, k counting low and high of each axis.
struct Patch {
  Number type = Number::kFloat32;
  bool to_pixels = false, haar = false;
  int pt = 1, ps = 2;
  int64_t batch = 0, channels = 0, t = 0, h = 0, w = 0;
  const void* in = nullptr;
  void* out = nullptr;
};

/// Where cell `cell` of B·C·t·h·w begins on the side of the pixels, and on that of the patches.
ORRERY_EVERYWHERE int64_t pixel_of(const Patch& p, int64_t cell) {
  const int64_t x = cell % p.w, y = cell / p.w % p.h, frame = cell / (p.w * p.h);  // frame counts t in B·C·t
  return (frame * p.pt * p.h + y) * p.ps * (p.ps * p.w) + x * p.ps;
}
ORRERY_EVERYWHERE int64_t patch_of(const Patch& p, int64_t cell) {
  const int64_t volume = p.t * p.h * p.w, channel = cell / volume, b = channel / p.channels;
  return cell + b * (int64_t{p.pt} * p.ps * p.ps - 1) * p.channels * volume;
}

/// One cell: the body of both kernels.
template <class T>
ORRERY_EVERYWHERE void move_cell(const Patch& p, int64_t cell) {
  const int64_t first_pixel = pixel_of(p, cell), first_patch = patch_of(p, cell);
  const int64_t row = p.w * p.ps, frame = p.h * p.ps * row, step = p.channels * p.t * p.h * p.w;
  const T* in = static_cast<const T*>(p.in);
  T* out = static_cast<T*>(p.out);
  if (!p.haar) {
    for (int kt = 0, k = 0; kt < p.pt; ++kt)
      for (int ky = 0; ky < p.ps; ++ky)
        for (int kx = 0; kx < p.ps; ++kx, ++k) {
          const int64_t pixel = first_pixel + kt * frame + ky * row + kx, patch = first_patch + k * step;
          p.to_pixels ? out[pixel] = in[patch] : out[patch] = in[pixel];
        }
    return;
  }
  float values[8];  // in registers, which is why the loops must be unrolled
  ORRERY_UNROLL
  for (int k = 0; k < 8; ++k) {
    const int64_t pixel = first_pixel + (k >> 2) * frame + (k >> 1 & 1) * row + (k & 1), patch = first_patch + k * step;
    values[k] = k < 4 * p.pt ? to_float(in[p.to_pixels ? patch : pixel]) : 0.0f;
  }
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
    const int64_t pixel = first_pixel + (k >> 2) * frame + (k >> 1 & 1) * row + (k & 1), patch = first_patch + k * step;
    if (k < 4 * p.pt) out[p.to_pixels ? pixel : patch] = from_float<T>(values[k]);
  }
}

/// Cells [begin, end) on the CPU.
void patch_cpu(const Patch& p, int64_t begin, int64_t end);

}  // namespace orrery::kernels

/// On the GPU; the CUDA error, 0 if there is none.
extern "C" int orrery_cuda_patch(const orrery::kernels::Patch* p, void* stream);
