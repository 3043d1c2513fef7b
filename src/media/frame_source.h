#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "media/ffmpeg.h"
#include "media/pixels.h"

namespace orrery::media {

/// A decoded frame and when it is on screen, in seconds from the first frame.
struct TimedFrame {
  FramePtr frame;
  double time = 0;
  double duration = 0;
  Orientation orientation;
};

/// Where frames come from: a file with a time line, or pictures one after another.
class FrameSource {
 public:
  virtual ~FrameSource() = default;
  /// The next frame; empty at the end. Throws Error(kMedia) where the stream is damaged, after all good frames were given.
  virtual std::optional<TimedFrame> next() = 0;
  /// Goes to a frame at or before `time`, if that saves work. Only before the first next().
  virtual void seek(double time) = 0;
  virtual bool stills() const = 0;                       ///< pictures, not frames of a video
  virtual double fps() const = 0;                        ///< 0 for a single picture
  virtual double tick() const = 0;                       ///< seconds by which time stamps may be rounded
  virtual std::optional<int64_t> count() const = 0;      ///< frames, where the container says so
  virtual std::optional<double> seconds() const = 0;     ///< length, where the container says so
};

/// A container file.
std::unique_ptr<FrameSource> open_video_file(const std::filesystem::path& path);
/// Pictures, one a frame, `fps` of them a second; one picture alone has fps 0. `paths` is not empty.
std::unique_ptr<FrameSource> open_pictures(std::vector<std::filesystem::path> paths, double fps);

/// How long a Matroska or AVI file is by its own first bytes; empty for others, and where it does not say. FFmpeg reads such
/// a file to its end without a word when it was cut off.
std::optional<uint64_t> stated_size(const std::filesystem::path& path);

/// Whether a file begins as a still picture does.
bool is_picture(const std::filesystem::path& path);
/// The decoded picture of a file, and how it must be turned.
TimedFrame read_picture(const std::filesystem::path& path);

/// A printf pattern with one %d or %0Nd in its last part.
struct NumberedPattern {
  std::string before, after;  ///< of the file name
  int digits = 0;             ///< least number of digits, filled with zeros
  std::filesystem::path folder;

  std::filesystem::path name(int64_t number) const;
  /// The number in a file name, where it is one that this pattern makes.
  std::optional<int64_t> number(const std::string& file_name) const;
};
/// Whether `path` is such a pattern; throws Error(kArgument) for one that cannot be understood ("%s", two numbers).
std::optional<NumberedPattern> parse_pattern(const std::filesystem::path& path);

/// The pictures of a folder by the last number in their names; those of a pattern by their number. Throws Error(kMedia)
/// where there are none.
std::vector<std::filesystem::path> list_pictures(const std::filesystem::path& folder);
std::vector<std::filesystem::path> list_pictures(const NumberedPattern& pattern, const std::filesystem::path& path);

}  // namespace orrery::media
