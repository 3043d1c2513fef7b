#include <ATen/ATen.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "guarded.h"
#include "media/frame_sink.h"
#include "orrery/media.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

constexpr const char* kKnownOutputs = ".mp4, .mov, .webm, .mkv, .gif, .png, .jpg, a folder, or a pattern like frames/%05d.png";

std::string extension_of(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(), [](unsigned char c) { return std::tolower(c); });
  return extension;
}

std::unique_ptr<media::FrameSink> make_sink(fs::path path, const WriteOptions& options) {
  const fs::path given = path;
  const auto refuse = [&given](const char* what) {
    throw Error(ErrorKind::kArgument, {.place = given.string(), .what = what, .expected = kKnownOutputs});
  };
  if (path.empty()) refuse("no place to write to is given");
  const bool trailing_slash = !path.has_filename();
  if (trailing_slash) path = path.parent_path();
  std::error_code ignored;
  const std::string extension = extension_of(path);
  const bool jpeg = extension == ".jpg" || extension == ".jpeg";
  if (auto pattern = trailing_slash ? std::nullopt : media::parse_pattern(path)) {
    if (!jpeg && extension != ".png") refuse("numbered pictures are written as .png or .jpg");
    if (pattern->folder.empty()) pattern->folder = ".";
    return media::make_sequence_sink(*pattern, jpeg);
  }
  if (trailing_slash || extension.empty() || fs::is_directory(path, ignored)) {
    return media::make_sequence_sink({.after = ".png", .digits = 5, .folder = path}, false);
  }
  if (jpeg || extension == ".png") return media::make_picture_sink(path, jpeg);
  const std::vector<const char*> h264 = {"libx264", "libopenh264"};
  if (extension == ".mp4") return media::make_container_sink(path, {"mp4", h264, AV_PIX_FMT_YUV420P}, options);
  if (extension == ".mov") return media::make_container_sink(path, {"mov", h264, AV_PIX_FMT_YUV420P}, options);
  if (extension == ".webm") return media::make_container_sink(path, {"webm", {"libvpx-vp9"}, AV_PIX_FMT_YUV420P}, options);
  if (extension == ".mkv") return media::make_container_sink(path, {"matroska", {"ffv1"}, AV_PIX_FMT_BGR0}, options);
  if (extension == ".gif") return media::make_container_sink(path, {"gif", {"gif"}, AV_PIX_FMT_PAL8}, options);
  refuse("this kind of file cannot be written");
  return nullptr;
}

}  // namespace

struct VideoWriter::Impl {
  fs::path path;
  std::unique_ptr<media::FrameSink> sink;
  int64_t height = 0, width = 0;
};

VideoWriter::VideoWriter(const fs::path& path, WriteOptions options) : impl_(std::make_unique<Impl>()) {
  if (options.fps == 0) options.fps = 24;
  const auto refuse = [](const char* what, double got, const char* hint = "") {
    throw Error(ErrorKind::kArgument, {.place = "WriteOptions", .what = what, .got = std::to_string(got), .hint = hint});
  };
  if (!(options.fps > 0 && options.fps <= 1000)) refuse("the rate must lie between 0 and 1000", options.fps);
  if (extension_of(path) == ".gif" && options.fps > 50) {
    refuse("a GIF shows at most 50 frames a second", options.fps, "write .mp4, or read the clip at a lower rate (--fps)");
  }
  if (options.crf < 0 || options.crf > 51) refuse("the quality (crf) must lie between 0 and 51", options.crf);
  impl_->path = path;
  impl_->sink = make_sink(path, options);
}
VideoWriter::~VideoWriter() = default;
VideoWriter::VideoWriter(VideoWriter&&) noexcept = default;
VideoWriter& VideoWriter::operator=(VideoWriter&&) noexcept = default;

void VideoWriter::write(const at::Tensor& frames) try {
  const auto refuse = [this](const char* what, std::string expected, std::string got) {
    throw Error(ErrorKind::kArgument, {.place = impl_->path.string(), .what = what, .expected = expected, .got = got});
  };
  if (!impl_->sink) refuse("the writer has finished or failed; nothing more can be written", "", "");
  if (!frames.defined() || frames.dim() != 4 || frames.size(3) != 3 || frames.scalar_type() != at::kByte ||
      frames.size(1) == 0 || frames.size(2) == 0 || !frames.is_cpu()) {
    refuse("these are not frames", "uint8 [T,H,W,3] on the CPU", "");
  }
  const auto size = [](int64_t w, int64_t h) { return std::to_string(w) + "x" + std::to_string(h); };
  if (impl_->height == 0) {
    if (frames.size(1) > 16384 || frames.size(2) > 16384) {
      refuse("the frames are too large", "at most 16384x16384", size(frames.size(2), frames.size(1)));
    }
    impl_->height = frames.size(1);
    impl_->width = frames.size(2);
  }
  if (frames.size(1) != impl_->height || frames.size(2) != impl_->width) {
    refuse("the frames are not of the size of those before", size(impl_->width, impl_->height),
           size(frames.size(2), frames.size(1)));
  }
  const at::Tensor contiguous = frames.contiguous();
  try {
    for (int64_t i = 0; i < frames.size(0); ++i) impl_->sink->write(contiguous[i]);
  } catch (...) {
    impl_->sink.reset();  // what was written so far goes away now, not only with the writer
    throw;
  }
} catch (...) {
  rethrow_as_error("VideoWriter::write");
}

void VideoWriter::finish() try {
  std::unique_ptr<media::FrameSink> sink = std::move(impl_->sink);
  if (!sink) {
    throw Error(ErrorKind::kArgument, {.place = impl_->path.string(), .what = "the writer has already finished or failed"});
  }
  if (impl_->height == 0) {
    throw Error(ErrorKind::kArgument, {.place = impl_->path.string(), .what = "not a single frame was written",
                                       .hint = "give the writer frames before it finishes"});
  }
  sink->finish();
} catch (...) {
  rethrow_as_error("VideoWriter::finish");
}

void write_video(const fs::path& path, const Video& video, WriteOptions options) {
  if (options.fps == 0) options.fps = video.fps;
  VideoWriter writer(path, options);
  if (video.num_frames() > 0) writer.write(video.frames);
  writer.finish();
}

}  // namespace orrery
