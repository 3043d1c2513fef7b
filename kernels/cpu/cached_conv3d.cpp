#include "kernels/cached_conv3d.h"

#include <algorithm>
#include <cmath>

#include "kernels/common/dispatch.h"

namespace orrery::kernels {
namespace {

template <class T>
struct Source {
  const T* pixel = nullptr;
  float factor = 1;
};

// Where input frame `frame` of a sample has its pixel (y, x); no pixel outside.
template <class T>
Source<T> source_of(const CachedConv3d& p, int64_t sample, int64_t frame, int64_t y, int64_t x) {
  if (y < 0 || x < 0 || y >= p.height * p.upsample || x >= p.width * p.upsample) return {};
  if (frame < -p.cache_frames) {
    if (!p.replicate) return {};
    frame = -p.cache_frames;
  }
  const bool cached = frame < 0;
  const int64_t image = cached ? sample * p.cache_frames + p.cache_frames + frame : sample * p.frames + frame;
  const int64_t pixel = (image * p.height + y / p.upsample) * p.width + x / p.upsample;
  const float* factor = cached ? p.cache_factor : p.factor;
  return {static_cast<const T*>(cached ? p.cache : p.x) + pixel * p.in, p.gamma ? factor[pixel] : 1.0f};
}

template <class T>
void convolve_pixel(const CachedConv3d& p, int64_t pixel) {
  const int64_t x = pixel % p.out_w, y = pixel / p.out_w % p.out_h, o = pixel / (p.out_w * p.out_h) % p.out_t;
  const int64_t sample = pixel / (p.out_w * p.out_h * p.out_t);
  const auto* weight = static_cast<const T*>(p.weight);
  for (int64_t channel = 0; channel < p.out; ++channel) {
    double sum = p.bias ? p.bias[channel] : 0;
    for (int kt = 0; kt < p.kernel_t; ++kt) {
      for (int ky = 0; ky < p.kernel_s; ++ky) {
        for (int kx = 0; kx < p.kernel_s; ++kx, weight += p.in) {
          const auto source = source_of<T>(p, sample, o * p.stride_t + kt - p.past, y * p.stride_s + ky - p.pad,
                                           x * p.stride_s + kx - p.pad);
          if (!source.pixel) continue;
          for (int64_t i = 0; i < p.in; ++i) {
            float value = to_float(source.pixel[i]);
            if (p.gamma) {
              value *= source.factor * p.gamma[i];
              value = to_float(from_float<T>(value / (1.0f + std::exp(-value))));
            }
            sum += static_cast<double>(value) * to_float(weight[i]);
          }
        }
      }
    }
    const int64_t at = pixel * p.out + channel;
    if (p.residual) sum += to_float(static_cast<const T*>(p.residual)[at]);
    static_cast<T*>(p.result)[at] = from_float<T>(static_cast<float>(sum));
  }
}

}  // namespace

void cached_conv3d_cpu(const CachedConv3d& p, int64_t begin, int64_t end) {
  for_float_type(p.type, [&](auto number) {
    for (int64_t pixel = begin; pixel < end; ++pixel) convolve_pixel<decltype(number)>(p, pixel);
  });
}

void pixel_factor_cpu(const PixelFactor& p, int64_t begin, int64_t end) {
  for_float_type(p.type, [&](auto number) {
    for (int64_t pixel = begin; pixel < end; ++pixel) {
      const auto* x = static_cast<const decltype(number)*>(p.x) + pixel * p.channels;
      double squares = 0;
      for (int64_t i = 0; i < p.channels; ++i) squares += static_cast<double>(to_float(x[i])) * to_float(x[i]);
      p.factor[pixel] = static_cast<float>(std::sqrt(static_cast<double>(p.channels)) / std::max(std::sqrt(squares), 1e-12));
    }
  });
}

}  // namespace orrery::kernels
