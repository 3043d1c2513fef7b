#include "media/resize.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "guarded.h"

namespace orrery {
namespace media {
namespace {

constexpr int kPrecision = 32 - 8 - 2;  // bits after the point, so that 255 · weights fit 32 bits with room to overshoot

double kernel_value(ResizeFilter filter, double x) {
  x = std::abs(x);
  if (filter == ResizeFilter::kBilinear) return x < 1 ? 1 - x : 0;
  constexpr double a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// For each output sample: the first input sample it reads, and its weights.
struct Taps {
  int64_t count = 0;  // weights an output sample; unused ones are 0
  std::vector<int64_t> first;
  std::vector<int64_t> used;
  std::vector<int32_t> weights;
};

Taps make_taps(int64_t from, int64_t to, ResizeFilter filter) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double stretch = std::max(scale, 1.0);  // antialiasing: the kernel covers all that is merged into one sample
  const double support = (filter == ResizeFilter::kBilinear ? 1.0 : 2.0) * stretch;
  Taps taps;
  taps.count = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  taps.weights.resize(to * taps.count);
  std::vector<double> values(taps.count);
  for (int64_t i = 0; i < to; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
    const int64_t end = std::min<int64_t>(static_cast<int64_t>(center + support + 0.5), from);
    double sum = 0;
    for (int64_t k = first; k < end; ++k) {
      values[k - first] = kernel_value(filter, (static_cast<double>(k) - center + 0.5) / stretch);
      sum += values[k - first];
    }
    for (int64_t k = 0; k < end - first; ++k) {
      const double weight = (sum != 0 ? values[k] / sum : values[k]) * (1 << kPrecision);
      taps.weights[i * taps.count + k] = static_cast<int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    taps.first.push_back(first);
    taps.used.push_back(end - first);
  }
  return taps;
}

uint8_t round_to_byte(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kPrecision, 0, 255)); }

constexpr int32_t kHalf = 1 << (kPrecision - 1);

at::Tensor resample_columns(const at::Tensor& picture, int64_t width, ResizeFilter filter) {
  const int64_t height = picture.size(0), from = picture.size(1);
  const Taps taps = make_taps(from, width, filter);
  at::Tensor result = at::empty({height, width, 3}, at::kByte);
  const uint8_t* source = picture.const_data_ptr<uint8_t>();
  uint8_t* out = result.data_ptr<uint8_t>();
  for (int64_t y = 0; y < height; ++y) {
    const uint8_t* row = source + y * from * 3;
    for (int64_t x = 0; x < width; ++x, out += 3) {
      const uint8_t* pixel = row + taps.first[x] * 3;
      const int32_t* weight = taps.weights.data() + x * taps.count;
      int32_t r = kHalf, g = kHalf, b = kHalf;
      for (int64_t k = 0; k < taps.used[x]; ++k, pixel += 3) {
        r += pixel[0] * weight[k];
        g += pixel[1] * weight[k];
        b += pixel[2] * weight[k];
      }
      out[0] = round_to_byte(r);
      out[1] = round_to_byte(g);
      out[2] = round_to_byte(b);
    }
  }
  return result;
}

at::Tensor resample_rows(const at::Tensor& picture, int64_t height, ResizeFilter filter) {
  const int64_t from = picture.size(0), row = picture.size(1) * 3;
  const Taps taps = make_taps(from, height, filter);
  at::Tensor result = at::empty({height, picture.size(1), 3}, at::kByte);
  const uint8_t* source = picture.const_data_ptr<uint8_t>();
  uint8_t* out = result.data_ptr<uint8_t>();
  std::vector<int32_t> sums(row);
  for (int64_t y = 0; y < height; ++y, out += row) {
    std::fill(sums.begin(), sums.end(), kHalf);
    for (int64_t k = 0; k < taps.used[y]; ++k) {
      const uint8_t* line = source + (taps.first[y] + k) * row;
      const int32_t weight = taps.weights[y * taps.count + k];
      for (int64_t x = 0; x < row; ++x) sums[x] += line[x] * weight;
    }
    for (int64_t x = 0; x < row; ++x) out[x] = round_to_byte(sums[x]);
  }
  return result;
}

}  // namespace

at::Tensor resample(const at::Tensor& picture, int64_t height, int64_t width, ResizeFilter filter) {
  at::Tensor result = picture.contiguous();
  if (result.size(1) != width) result = resample_columns(result, width, filter);
  if (result.size(0) != height) result = resample_rows(result, height, filter);
  return result;
}

at::Tensor resize_picture(const at::Tensor& picture, const ResizeOptions& options) {
  const int64_t height = picture.size(0), width = picture.size(1);
  const int64_t wanted_height = options.height > 0 ? options.height : height;
  const int64_t wanted_width = options.width > 0 ? options.width : width;
  const double rows = static_cast<double>(wanted_height) / static_cast<double>(height);
  const double columns = static_cast<double>(wanted_width) / static_cast<double>(width);
  if (options.mode == ResizeMode::kStretch || (height == wanted_height && width == wanted_width)) {
    return resample(picture, wanted_height, wanted_width, options.filter);
  }
  if (options.mode == ResizeMode::kCrop) {
    // The covering size is rounded up, as in cosmos_predict2's and cosmos3's preprocessors; the cut is centred.
    const double scale = std::max(rows, columns);
    const auto covering = [scale](int64_t side) { return static_cast<int64_t>(std::ceil(scale * static_cast<double>(side))); };
    const at::Tensor covered = resample(picture, covering(height), covering(width), options.filter);
    const int64_t top = std::lrint(static_cast<double>(covered.size(0) - wanted_height) / 2);
    const int64_t left = std::lrint(static_cast<double>(covered.size(1) - wanted_width) / 2);
    return covered.narrow(0, top, wanted_height).narrow(1, left, wanted_width).contiguous();
  }
  const double scale = std::min(rows, columns);
  const auto fitting = [scale](int64_t side, int64_t limit) {
    return std::clamp<int64_t>(std::lrint(scale * static_cast<double>(side)), 1, limit);
  };
  const at::Tensor fitted =
      resample(picture, fitting(height, wanted_height), fitting(width, wanted_width), options.filter);
  at::Tensor result = at::zeros({wanted_height, wanted_width, 3}, at::kByte);
  const int64_t top = (wanted_height - fitted.size(0)) / 2, left = (wanted_width - fitted.size(1)) / 2;
  result.narrow(0, top, fitted.size(0)).narrow(1, left, fitted.size(1)).copy_(fitted);
  return result;
}

}  // namespace media

Video resize(const Video& video, const ResizeOptions& options) try {
  if (!video.frames.defined() || video.frames.dim() != 4 || video.frames.size(3) != 3 ||
      video.frames.scalar_type() != at::kByte || video.frames.numel() == 0) {
    throw Error(ErrorKind::kArgument, {.place = "resize", .what = "the frames are not of the kind that can be resized",
                                       .expected = "uint8 [T,H,W,3], none of them 0"});
  }
  if (options.height < 0 || options.width < 0) {
    throw Error(ErrorKind::kArgument, {.place = "resize", .what = "a side is negative"});
  }
  std::vector<at::Tensor> resized;
  for (int64_t i = 0; i < video.num_frames(); ++i) resized.push_back(media::resize_picture(video.frames[i], options));
  return {at::stack(resized), video.fps};
} catch (...) {
  rethrow_as_error("resize");
}

}  // namespace orrery
