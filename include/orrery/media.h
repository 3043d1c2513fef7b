#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "orrery/export.h"
#include "orrery/progress.h"
#include "orrery/video.h"

namespace orrery {

/// How a picture is brought to a wanted size.
enum class ResizeMode {
  kStretch,    ///< to exactly height x width, aspect ratio not kept
  kCrop,       ///< shorter side fits, the rest is cut off evenly
  kLetterbox,  ///< longer side fits, black bars
};

/// The kernel of a resize; both with antialiasing when shrinking, as Pillow and torchvision (antialias=True) do.
enum class ResizeFilter { kBilinear, kBicubic };

/// The wanted size; a height or width of 0 keeps the source's.
struct ResizeOptions {
  int64_t height = 0;
  int64_t width = 0;
  ResizeMode mode = ResizeMode::kStretch;
  ResizeFilter filter = ResizeFilter::kBilinear;
};

/// Resizes uint8 frames [T,H,W,3]; equal to torchvision's resize(antialias=True) on uint8 to ±1.
ORRERY_API Video resize(const Video& video, const ResizeOptions& options);

/// The frames of `left` with those of `right` beside them, uint8 [T,H,W1+W2,3], at left's rate. Throws Error(kArgument)
/// where the frame counts or heights differ, or there are no frames.
ORRERY_API Video side_by_side(const Video& left, const Video& right);

/// Which frames of a file are wanted.
struct ReadOptions {
  double start = 0;                   ///< seconds from the first frame: begin with the frame on screen then
  std::optional<int64_t> num_frames;  ///< at most so many; without it, all
  /// Resample by time stamps to this rate: frame n is the one on screen at start + n / fps. Without it, every frame as stored.
  /// Pictures in a folder have no time stamps; for them it is their rate (24 without it).
  std::optional<double> fps;
  ResizeOptions size;
};

/// Reads one video frame by frame, so that memory does not grow with its length.
/// Opens MP4, MKV, WebM, AVI, MOV, GIF, pictures, a folder of numbered pictures, or a printf pattern (frames/%05d.png).
/// Turns frames upright (display matrix, Exif), drops alpha, respects matrix and range (BT.601 where the file names none),
/// takes pixels as square. Frames of a video equal those of `ffmpeg -i FILE -pix_fmt rgb24`. One thread at a time.
class ORRERY_API VideoReader {
 public:
  /// Throws Error(kMedia) when the file is missing, no video, truncated before its first frame, or has no frame.
  explicit VideoReader(const std::filesystem::path& path, ReadOptions options = {});
  ~VideoReader();
  VideoReader(VideoReader&&) noexcept;
  VideoReader& operator=(VideoReader&&) noexcept;

  double fps() const;      ///< of the frames that come out
  int64_t height() const;  ///< of the frames that come out (rotated, resized)
  int64_t width() const;
  /// How many frames will come if the container says so; empty where it does not.
  std::optional<int64_t> num_frames_hint() const;
  /// The next up to `count` frames, uint8 [T,H,W,3]; an undefined tensor at the end.
  /// Throws Error(kMedia) when the stream is damaged, telling how many frames were good.
  at::Tensor read(int64_t count);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// How frames are stored. The container follows the path: .mp4 H.264 (yuv420p, fast start), .webm VP9, .mkv FFV1 (lossless),
/// .gif, .png/.jpg for one picture, a folder or a %05d.png pattern for numbered pictures (lossless).
struct WriteOptions {
  double fps = 0;  ///< 0: 24
  int crf = 18;    ///< quality of H.264 and VP9, 0 (best) … 51
};

/// Writes one video frame by frame beside `path` and moves it there in finish(); without finish() nothing is left behind.
class ORRERY_API VideoWriter {
 public:
  VideoWriter(const std::filesystem::path& path, WriteOptions options = {});
  ~VideoWriter();
  VideoWriter(VideoWriter&&) noexcept;
  VideoWriter& operator=(VideoWriter&&) noexcept;

  /// Appends uint8 [T,H,W,3]; all calls must agree on H and W. Odd sizes are padded by one replicated row or column
  /// where the codec needs even ones (H.264, VP9). Throws Error(kMedia) on a full disk or an unwritable place.
  void write(const at::Tensor& frames);
  /// Completes the file and gives it its name.
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Reads a whole video or picture. Throws as VideoReader does.
ORRERY_API Video read_video(const std::filesystem::path& path, const ReadOptions& options = {});
/// Reads one picture as a Video of one frame.
ORRERY_API Video read_image(const std::filesystem::path& path, const ResizeOptions& size = {});
/// Writes a whole video; options.fps 0 takes the video's own.
ORRERY_API void write_video(const std::filesystem::path& path, const Video& video, WriteOptions options = {});

}  // namespace orrery
