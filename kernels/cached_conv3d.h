#pragma once

#include <cstdint>

#include "kernels/common/numbers.h"

namespace orrery::kernels {

/// A causal convolution over [cache | x], both [B, frames, H, W, in], read where they lie: nothing is joined, padded or
/// upsampled in memory. Output frame o and tap k meet at frame o · stride_t + k − past of x; negative ones lie in the cache,
/// and before the cache are zeros or the first frame there is. out [B, out_t, out_h, out_w, out].
struct CachedConv3d {
  Number type = Number::kBFloat16;  ///< of x, cache, weight, residual and out
  int64_t batch = 0, in = 0, out = 0;
  int64_t frames = 0, cache_frames = 0, height = 0, width = 0;
  int64_t out_t = 0, out_h = 0, out_w = 0;
  int kernel_t = 3, kernel_s = 3, stride_t = 1, stride_s = 1;
  int past = 2;      ///< frames before the first of x that the first output sees
  int pad = 1;       ///< pixels of zeros above and to the left; below and right follow from out_h, out_w
  int upsample = 1;  ///< each pixel of x stands for a square of this side
  bool replicate = false;
  const void* x = nullptr;
  const void* cache = nullptr;     ///< may be null with no cache_frames
  const void* weight = nullptr;    ///< [out, kernel_t, kernel_s, kernel_s, in]
  const float* bias = nullptr;     ///< [out] or null
  const void* residual = nullptr;  ///< as out, added to it; or null
  void* result = nullptr;
  /// A fused L2-RMS norm and SiLU on the way in: silu(x · factor · gamma), factor one a pixel. All null: none.
  const float* gamma = nullptr;         ///< [in]
  const float* factor = nullptr;        ///< [B, frames, H, W]
  const float* cache_factor = nullptr;  ///< [B, cache_frames, H, W]
};

/// factor[i] = √C / max(‖x[i]‖₂, 1e-12) for pixels x [count, C].
struct PixelFactor {
  Number type = Number::kBFloat16;
  int64_t count = 0, channels = 0;
  const void* x = nullptr;
  float* factor = nullptr;
};

/// Output pixels [begin, end) of B · out_t · out_h · out_w on the CPU; also in float32.
void cached_conv3d_cpu(const CachedConv3d& p, int64_t begin, int64_t end);
/// Pixels [begin, end) on the CPU; also in float32.
void pixel_factor_cpu(const PixelFactor& p, int64_t begin, int64_t end);

}  // namespace orrery::kernels

/// On the GPU, bfloat16 and float16, `in` a multiple of 8 and all pointers aligned to 16; the CUDA error, 0 if there is
/// none.
extern "C" int orrery_cuda_cached_conv3d(const orrery::kernels::CachedConv3d* p, void* stream);
extern "C" int orrery_cuda_pixel_factor(const orrery::kernels::PixelFactor* p, void* stream);
