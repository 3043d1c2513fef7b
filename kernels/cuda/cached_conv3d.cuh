#pragma once

#include "kernels/cached_conv3d.h"
#include "kernels/common/dispatch.h"
#include "kernels/cuda/device/tiles.h"

// An implicit matrix product: rows are output pixels, columns output channels, and the depth runs over taps and, within a
// tap, over input channels, 32 at a time. A block makes 128 pixels by 64 channels; its four warps 32 pixels each. A thread
// brings in one row of the left tile, so that a pixel's place in the clip is taken apart once, and half a row of the right
// one. Three tiles are under way (36 KiB of shared memory, so two blocks or more fit every architecture since Ampere).
//
// The fused norm is applied between global and shared memory, once for each tap that reads a pixel: some ten operations for
// a number that then takes part in 64 products on the tensor cores.
namespace orrery::kernels {

inline constexpr int kConvRows = 128, kConvColumns = 64, kConvStages = 3;

template <class T>
struct ConvShared {
  simt::Tile<T, kConvRows> left[kConvStages];
  simt::Tile<T, kConvColumns> right[kConvStages];
};

// One output pixel and where its taps lie.
template <class T>
struct ConvRow {
  int64_t sample = 0, frame = 0, y = 0, x = 0;  // the first tap's place on the upsampled input
  bool inside = false;

  __device__ ConvRow(const CachedConv3d& p, int64_t pixel) {
    inside = pixel < p.batch * p.out_t * p.out_h * p.out_w;
    if (!inside) return;
    const int64_t image = pixel / (p.out_h * p.out_w), within = pixel - image * (p.out_h * p.out_w);
    sample = image / p.out_t;
    frame = (image - sample * p.out_t) * p.stride_t - p.past;
    y = within / p.out_w * p.stride_s - p.pad;
    x = within % p.out_w * p.stride_s - p.pad;
  }

  // The input pixel under a tap, null outside; its number goes to `factor`, if that is asked for.
  __device__ const T* tap(const CachedConv3d& p, int kt, int ky, int kx, float& factor) const {
    int64_t f = frame + kt;
    const int64_t v = y + ky, u = x + kx;
    if (!inside || v < 0 || u < 0 || v >= p.height * p.upsample || u >= p.width * p.upsample) return nullptr;
    if (f < -p.cache_frames) {
      if (!p.replicate) return nullptr;
      f = -p.cache_frames;
    }
    const int64_t image = f < 0 ? (sample + 1) * p.cache_frames + f : sample * p.frames + f;
    const int64_t pixel = (image * p.height + (p.upsample == 2 ? v / 2 : v)) * p.width + (p.upsample == 2 ? u / 2 : u);
    if (p.gamma) factor = f < 0 ? p.cache_factor[pixel] : p.factor[pixel];
    return static_cast<const T*>(f < 0 ? p.cache : p.x) + pixel * p.in;
  }
};

template <class T, bool kFused>
__device__ __forceinline__ void load_conv_tiles(const CachedConv3d& p, const ConvRow<T>& row, int64_t step,
                                                int64_t depth_steps, simt::Tile<T, kConvRows>& left,
                                                simt::Tile<T, kConvColumns>& right) {
  const int thread = threadIdx.x, tap = step / depth_steps;
  const int channel = (step - tap * depth_steps) * 32;
  const int square = p.kernel_s * p.kernel_s, in_square = tap % square;
  float factor = 1;
  const T* pixel = row.tap(p, tap / square, in_square / p.kernel_s, in_square % p.kernel_s, factor);
  for (int chunk = 0; chunk < 4; ++chunk) {
    const int64_t c = channel + 8 * chunk;
    const bool valid = pixel != nullptr && c < p.in;
    T* to = left.chunk(thread, chunk);
    if constexpr (kFused) {
      simt::Vector<T, 8> values{};
      if (valid) {
        values = *reinterpret_cast<const simt::Vector<T, 8>*>(pixel + c);
        for (int i = 0; i < 8; ++i) {
          const float value = to_float(values.at[i]) * factor * p.gamma[c + i];
          values.at[i] = from_float<T>(value / (1.0f + expf(-value)));
        }
      }
      *reinterpret_cast<simt::Vector<T, 8>*>(to) = values;
    } else {
      simt::copy_async16(to, valid ? pixel + c : static_cast<const T*>(p.x), valid);
    }
  }
  const int64_t out = int64_t{blockIdx.y} * kConvColumns + thread / 2;
  const T* weight = static_cast<const T*>(p.weight) + (out * p.kernel_t * square + tap) * p.in + channel;
  for (int chunk = thread % 2 * 2, end = chunk + 2; chunk < end; ++chunk)
    simt::copy_async16(right.chunk(thread / 2, chunk), weight + 8 * chunk, out < p.out && channel + 8 * chunk < p.in);
}

template <class T, bool kFused>
__global__ void __launch_bounds__(128, 2) cached_conv3d_kernel(CachedConv3d p) {
  auto& shared = simt::shared<ConvShared<T>>();
  const int64_t first_row = int64_t{blockIdx.x} * kConvRows;
  const ConvRow<T> row(p, first_row + threadIdx.x);
  const int depth_steps = static_cast<int>((p.in + 31) / 32), steps = depth_steps * p.kernel_t * p.kernel_s * p.kernel_s;
  const int warp_row = threadIdx.x / 32 * 32;
  float sums[2][8][4] = {};

  for (int stage = 0; stage < kConvStages - 1; ++stage) {
    if (stage < steps) load_conv_tiles<T, kFused>(p, row, stage, depth_steps, shared.left[stage], shared.right[stage]);
    simt::copies_commit();
  }
  int stage = 0;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    simt::copies_wait<kConvStages - 2>();
    simt::barrier();  // this tile is here, and nobody reads the one that is overwritten next
    const int ahead = step + kConvStages - 1;
    const int free_stage = stage == 0 ? kConvStages - 1 : stage - 1;
    if (ahead < steps)
      load_conv_tiles<T, kFused>(p, row, ahead, depth_steps, shared.left[free_stage], shared.right[free_stage]);
    simt::copies_commit();
    simt::multiply_tiles(sums, shared.left[stage], warp_row, shared.right[stage], 0);
    stage = stage == kConvStages - 1 ? 0 : stage + 1;
  }
  simt::copies_wait<0>();

  const int64_t rows = p.batch * p.out_t * p.out_h * p.out_w;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t pixel = first_row + warp_row + 16 * m + 8 * half + lane / 4;
      if (pixel >= rows) continue;
#pragma unroll
      for (int n = 0; n < 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int64_t channel = int64_t{blockIdx.y} * kConvColumns + 8 * n + lane % 4 * 2 + i;
          if (channel >= p.out) continue;
          float value = sums[m][n][2 * half + i];
          if (p.bias) value += p.bias[channel];
          if (p.residual) value += to_float(static_cast<const T*>(p.residual)[pixel * p.out + channel]);
          static_cast<T*>(p.result)[pixel * p.out + channel] = from_float<T>(value);
        }
      }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(256) pixel_factor_kernel(PixelFactor p) {
  const int64_t pixel = int64_t{blockIdx.x} * 8 + threadIdx.x / 32;
  if (pixel >= p.count) return;
  const T* x = static_cast<const T*>(p.x) + pixel * p.channels;
  float squares = 0;
  for (int64_t c = threadIdx.x % 32 * 8; c < p.channels; c += 256) {
    const auto values = *reinterpret_cast<const simt::Vector<T, 8>*>(x + c);
    for (int i = 0; i < 8; ++i) squares += to_float(values.at[i]) * to_float(values.at[i]);
  }
  const float norm = sqrtf(simt::warp_sum(squares));
  if (threadIdx.x % 32 == 0) p.factor[pixel] = sqrtf(static_cast<float>(p.channels)) / fmaxf(norm, 1e-12f);
}

inline int launch_cached_conv3d(const CachedConv3d& p, void* stream) {
  const int64_t rows = p.batch * p.out_t * p.out_h * p.out_w;
  if (rows == 0 || p.out == 0) return 0;
  const bool aligned = aligned16(p.x) && aligned16(p.cache) && aligned16(p.weight) && p.in % 8 == 0;
  if (!aligned || (p.upsample != 1 && p.upsample != 2)) return kInvalidValue;
  const dim3 grid(blocks_of(rows, kConvRows), blocks_of(p.out, kConvColumns));
  return for_half_type(p.type, [&](auto number) {
    using T = decltype(number);
    return simt::launch(p.gamma ? cached_conv3d_kernel<T, true> : cached_conv3d_kernel<T, false>, grid, 128, stream, p);
  });
}

inline int launch_pixel_factor(const PixelFactor& p, void* stream) {
  if (p.count == 0) return 0;
  if (!aligned16(p.x) || p.channels % 8 != 0) return kInvalidValue;
  return for_half_type(p.type, [&](auto number) {
    return simt::launch(pixel_factor_kernel<decltype(number)>, dim3(blocks_of(p.count, 8)), 256, stream, p);
  });
}

}  // namespace orrery::kernels
