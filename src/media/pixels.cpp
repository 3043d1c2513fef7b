#include "media/pixels.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "orrery/log.h"

namespace orrery::media {
namespace {

// The yuvj formats are yuv with the range in the name; swscale wants the range said apart.
AVPixelFormat without_range(AVPixelFormat format) {
  switch (format) {
    case AV_PIX_FMT_YUVJ420P: return AV_PIX_FMT_YUV420P;
    case AV_PIX_FMT_YUVJ411P: return AV_PIX_FMT_YUV411P;
    case AV_PIX_FMT_YUVJ422P: return AV_PIX_FMT_YUV422P;
    case AV_PIX_FMT_YUVJ440P: return AV_PIX_FMT_YUV440P;
    case AV_PIX_FMT_YUVJ444P: return AV_PIX_FMT_YUV444P;
    default: return format;
  }
}

struct ScalerSpec {
  int width, height;
  AVPixelFormat from, to;
  bool from_full, to_full;
  AVColorSpace matrix;
  int flags;
};

ScalerPtr make_scaler(const ScalerSpec& spec) {
  ScalerPtr scaler(sws_alloc_context());
  if (!scaler) throw Error(ErrorKind::kDevice, {.place = "FFmpeg", .what = "out of memory"});
  quiet(*scaler);
  av_opt_set_int(scaler.get(), "sws_flags", spec.flags, 0);
  av_opt_set_int(scaler.get(), "srcw", spec.width, 0);
  av_opt_set_int(scaler.get(), "srch", spec.height, 0);
  av_opt_set_int(scaler.get(), "dstw", spec.width, 0);
  av_opt_set_int(scaler.get(), "dsth", spec.height, 0);
  av_opt_set_int(scaler.get(), "src_format", spec.from, 0);
  av_opt_set_int(scaler.get(), "dst_format", spec.to, 0);
  av_opt_set_int(scaler.get(), "src_range", spec.from_full, 0);
  av_opt_set_int(scaler.get(), "dst_range", spec.to_full, 0);
  // MPEG's chroma samples lie between two rows, in the column of the left pixel.
  if (spec.from == AV_PIX_FMT_YUV420P) av_opt_set_int(scaler.get(), "src_v_chr_pos", 128, 0);
  if (spec.to == AV_PIX_FMT_YUV420P) av_opt_set_int(scaler.get(), "dst_v_chr_pos", 128, 0);
  const int* matrix = sws_getCoefficients(spec.matrix == AVCOL_SPC_UNSPECIFIED ? SWS_CS_DEFAULT : spec.matrix);
  const int error = sws_init_context(scaler.get(), nullptr, nullptr);
  if (error < 0) {
    const char* name = av_get_pix_fmt_name(spec.from);
    throw Error(ErrorKind::kUnsupported, {.place = std::string("pixel format ") + (name ? name : "?"),
                                          .what = "FFmpeg cannot convert it (" + error_text(error) + ")"});
  }
  sws_setColorspaceDetails(scaler.get(), matrix, spec.from_full, matrix, spec.to_full, 0, 1 << 16, 1 << 16);
  return scaler;
}

FramePtr make_frame(AVPixelFormat format, int width, int height) {
  FramePtr frame = new_frame();
  frame->format = format;
  frame->width = width;
  frame->height = height;
  // Rows are padded: swscale's fast paths write past the last pixel.
  const int error = av_frame_get_buffer(frame.get(), 64);
  if (error < 0) {
    throw Error(ErrorKind::kDevice, {.place = "a frame of " + std::to_string(width) + "x" + std::to_string(height),
                                     .what = "cannot be allocated (" + error_text(error) + ")"});
  }
  return frame;
}

at::Tensor upright(at::Tensor picture, const Orientation& orientation) {
  if (orientation.transpose) picture = picture.transpose(0, 1);
  std::vector<int64_t> flips;
  if (orientation.flip_y) flips.push_back(0);
  if (orientation.flip_x) flips.push_back(1);
  if (!flips.empty()) picture = picture.flip(flips);
  return picture.contiguous();
}

bool same_kind(const AVFrame& a, const AVFrame& b) {
  return a.format == b.format && a.width == b.width && a.height == b.height && a.colorspace == b.colorspace &&
         a.color_range == b.color_range;
}

}  // namespace

Orientation orientation_of(const int32_t* matrix) {
  if (!matrix) return {};
  // A pixel (x, y) is shown at (a·x + c·y, b·x + d·y).
  const double a = matrix[0], b = matrix[1], c = matrix[3], d = matrix[4];
  const double upright = std::abs(a) + std::abs(d), lying = std::abs(b) + std::abs(c);
  if (constexpr double kSlant = 0.02; std::min(upright, lying) > kSlant * std::max(upright, lying))  // about one degree
    log(LogLevel::kWarning, "the video is meant to be shown at a slant; it is read at the nearest quarter turn");
  if (upright >= lying) return {.flip_x = a < 0, .flip_y = d < 0};
  return {.transpose = true, .flip_x = c < 0, .flip_y = b < 0};
}

Orientation orientation_of_exif(int value) {
  switch (value) {
    case 2: return {.flip_x = true};
    case 3: return {.flip_x = true, .flip_y = true};
    case 4: return {.flip_y = true};
    case 5: return {.transpose = true};
    case 6: return {.transpose = true, .flip_x = true};
    case 7: return {.transpose = true, .flip_x = true, .flip_y = true};
    case 8: return {.transpose = true, .flip_y = true};
    default: return {};
  }
}

at::Tensor RgbConverter::operator()(const AVFrame& frame, const Orientation& orientation) {
  if (!scaler_ || !same_kind(*key_, frame)) {
    const auto stored = static_cast<AVPixelFormat>(frame.format);
    const AVPixelFormat format = without_range(stored);
    const int flags = SWS_BICUBIC | (stills_ ? SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT : 0);
    const bool full = format != stored || frame.color_range == AVCOL_RANGE_JPEG;
    scaler_ = make_scaler({.width = frame.width, .height = frame.height, .from = format, .to = AV_PIX_FMT_RGB24,
                           .from_full = full, .to_full = true, .matrix = frame.colorspace, .flags = flags});
    rgb_ = make_frame(AV_PIX_FMT_RGB24, frame.width, frame.height);
    key_ = new_frame();
    key_->format = frame.format;
    key_->width = frame.width;
    key_->height = frame.height;
    key_->colorspace = frame.colorspace;
    key_->color_range = frame.color_range;
  }
  sws_scale(scaler_.get(), frame.data, frame.linesize, 0, frame.height, rgb_->data, rgb_->linesize);
  at::Tensor picture = at::empty({frame.height, frame.width, 3}, at::kByte);
  const size_t row = static_cast<size_t>(frame.width) * 3;
  for (int y = 0; y < frame.height; ++y) {
    std::memcpy(picture.data_ptr<uint8_t>() + y * row, rgb_->data[0] + static_cast<ptrdiff_t>(y) * rgb_->linesize[0], row);
  }
  return upright(std::move(picture), orientation);
}

YuvConverter::YuvConverter(AVPixelFormat format, int width, int height)
    : scaler_(make_scaler({.width = width, .height = height, .from = AV_PIX_FMT_RGB24, .to = without_range(format),
                           .from_full = true, .to_full = without_range(format) != format, .matrix = AVCOL_SPC_SMPTE170M,
                           .flags = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_BITEXACT | SWS_FULL_CHR_H_INP})),
      rgb_(make_frame(AV_PIX_FMT_RGB24, width, height)) {}

void YuvConverter::operator()(const at::Tensor& picture, AVFrame& frame) {
  copy_rgb(picture, *rgb_);
  sws_scale(scaler_.get(), rgb_->data, rgb_->linesize, 0, rgb_->height, frame.data, frame.linesize);
}

void copy_rgb(const at::Tensor& picture, AVFrame& frame) {
  const auto height = static_cast<int>(picture.size(0)), width = static_cast<int>(picture.size(1));
  const uint8_t* pixels = picture.const_data_ptr<uint8_t>();
  for (int y = 0; y < frame.height; ++y) {
    const uint8_t* from = pixels + static_cast<ptrdiff_t>(std::min(y, height - 1)) * width * 3;
    uint8_t* to = frame.data[0] + static_cast<ptrdiff_t>(y) * frame.linesize[0];
    if (frame.format == AV_PIX_FMT_RGB24) {
      std::memcpy(to, from, static_cast<size_t>(width) * 3);
      for (int x = width; x < frame.width; ++x) std::memcpy(to + x * 3, from + (width - 1) * 3, 3);
      continue;
    }
    for (int x = 0; x < frame.width; ++x) {
      const uint8_t* rgb = from + std::min(x, width - 1) * 3;
      const uint8_t bgr0[4] = {rgb[2], rgb[1], rgb[0], 0};
      std::memcpy(to + x * 4, bgr0, 4);
    }
  }
}

}  // namespace orrery::media
