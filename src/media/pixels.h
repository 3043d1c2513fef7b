#pragma once

#include <ATen/core/Tensor.h>

#include "media/ffmpeg.h"

namespace orrery::media {

/// How a stored picture must be turned to be seen upright: first transposed, then mirrored.
struct Orientation {
  bool transpose = false;
  bool flip_x = false;
  bool flip_y = false;
};

/// What a 3x3 display matrix asks for, as far as it is a multiple of 90 degrees and mirrors; null: upright.
Orientation orientation_of(const int32_t* matrix);
/// What an Exif orientation (1 … 8) asks for.
Orientation orientation_of_exif(int value);

/// Turns decoded frames of any pixel format into RGB. Keeps its scaler between frames of one kind.
/// The arithmetic is swscale's. Frames of a video go with the flags of the ffmpeg program ("bicubic"), so that they equal those
/// that ffmpeg and imageio deliver; stills with interpolated chroma, which is nearer to what Pillow delivers
/// (50 instead of 44 dB on a photograph). The frame's matrix (BT.601 where it says nothing) and range are respected; alpha is dropped.
class RgbConverter {
 public:
  explicit RgbConverter(bool stills) : stills_(stills) {}
  /// uint8 [H,W,3], upright.
  at::Tensor operator()(const AVFrame& frame, const Orientation& orientation);

 private:
  bool stills_;
  ScalerPtr scaler_;
  FramePtr key_;  // format, size and colour of the frames that scaler_ was made for
  FramePtr rgb_;
};

/// Turns uint8 [H,W,3] into an 8-bit YUV frame (yuv420p, yuvj444p, …), BT.601 matrix.
/// The frame may be larger by a row or column than the picture, which then repeats its edge.
class YuvConverter {
 public:
  YuvConverter(AVPixelFormat format, int width, int height);
  /// Fills `frame`, which is writable and has this format and size.
  void operator()(const at::Tensor& picture, AVFrame& frame);

 private:
  ScalerPtr scaler_;
  FramePtr rgb_;
};

/// Copies rows of uint8 [H,W,3] into a frame of RGB24, or of BGR0 with its fourth byte 0.
void copy_rgb(const at::Tensor& picture, AVFrame& frame);

}  // namespace orrery::media
