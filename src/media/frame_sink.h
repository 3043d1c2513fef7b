#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "media/frame_source.h"
#include "orrery/media.h"

namespace orrery::media {

/// Where frames go: into one container, or into pictures. Nothing bears the wanted name before finish().
class FrameSink {
 public:
  virtual ~FrameSink() = default;
  /// uint8 [H,W,3], contiguous, all of one size.
  virtual void write(const at::Tensor& picture) = 0;
  virtual void finish() = 0;
};

/// A new file or folder beside `target`, hidden, gone with the object unless it was moved.
class Partial {
 public:
  enum class Kind { kFile, kFolder };
  /// Throws Error(kMedia) where nothing can be created.
  Partial(const std::filesystem::path& target, Kind kind);
  ~Partial();
  Partial(const Partial&) = delete;
  Partial& operator=(const Partial&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Gives it the wanted name, in place of what bore it.
  void move_to_target();

 private:
  std::filesystem::path target_, path_;
};

/// How one container is written.
struct Container {
  const char* format;                 ///< FFmpeg's name of the muxer
  std::vector<const char*> encoders;  ///< in order of preference
  AVPixelFormat pixels;
};

/// A file in one container.
std::unique_ptr<FrameSink> make_container_sink(const std::filesystem::path& path, const Container& container,
                                               const WriteOptions& options);
/// One picture, PNG or (`jpeg`) JPEG.
std::unique_ptr<FrameSink> make_picture_sink(const std::filesystem::path& path, bool jpeg);
/// Numbered pictures from 0 on; they replace all files that the pattern could have made. Creates the folder.
std::unique_ptr<FrameSink> make_sequence_sink(const NumberedPattern& pattern, bool jpeg);

/// Fills a PAL8 frame: exactly where the picture has at most 256 colours, else by median cut with an ordered dither.
void fill_palette_frame(const at::Tensor& picture, AVFrame& frame);

}  // namespace orrery::media
