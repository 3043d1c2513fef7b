#include <ATen/ATen.h>

#include <cmath>
#include <exception>

#include "guarded.h"
#include "media/frame_source.h"
#include "media/resize.h"
#include "orrery/media.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

// Of pictures in a folder, which name no rate.
constexpr double kPictureRate = 24;

void check(const ReadOptions& options) {
  const auto refuse = [](const char* what, double value) {
    throw Error(ErrorKind::kArgument, {.place = "ReadOptions", .what = what, .got = std::to_string(value)});
  };
  if (!(options.start >= 0) || !std::isfinite(options.start)) refuse("the start must not be negative", options.start);
  if (options.fps && (!(*options.fps > 0) || *options.fps > 1000)) refuse("the rate must lie between 0 and 1000", *options.fps);
  if (options.num_frames && *options.num_frames <= 0) {
    refuse("the number of frames must be positive", static_cast<double>(*options.num_frames));
  }
  if (options.size.height < 0 || options.size.width < 0) {
    refuse("the size must not be negative", static_cast<double>(std::min(options.size.height, options.size.width)));
  }
}

std::unique_ptr<media::FrameSource> open_source(const fs::path& path, const ReadOptions& options) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  const double rate = options.fps.value_or(kPictureRate);
  if (fs::is_directory(status)) return media::open_pictures(media::list_pictures(path), rate);
  if (!fs::exists(status)) {
    if (const auto pattern = media::parse_pattern(path)) {
      return media::open_pictures(media::list_pictures(*pattern, path), rate);
    }
    media::fail(path, "does not exist", "check the path");
  }
  if (fs::is_regular_file(status) && fs::file_size(path, error) == 0) media::fail(path, "is empty", "fetch or record it again");
  if (media::is_picture(path)) return media::open_pictures({path}, 0);
  return media::open_video_file(path);
}

}  // namespace

struct VideoReader::Impl {
  Impl(const fs::path& path, ReadOptions wanted) : path(path), options(std::move(wanted)), source(open_source(path, options)), convert(source->stills()) {
    // Time stamps are rounded to ticks: a frame that comes half a tick late is still in time.
    slack = std::min(source->tick() / 2, 1e-3) + 1e-7;
    if (options.start > 0) source->seek(options.start);
    current = source->next();
    if (!current) media::fail(path, "has no frame");
    const AVFrame& frame = *current->frame;
    stored_height = frame.height;
    stored_width = frame.width;
    look_ahead();
    if (!advance(options.start)) {
      throw Error(ErrorKind::kArgument,
                  {.place = path.string(), .what = "has no frame at " + std::to_string(options.start) + " s",
                   .expected = "a start before " + std::to_string(current->time + current->duration) + " s"});
    }
    height = picture().size(0);
    width = picture().size(1);
  }

  // Takes the frame after the current one; what is wrong with it is told when it is its turn.
  void look_ahead() {
    upcoming.reset();
    try {
      upcoming = source->next();
    } catch (const Error&) {
      damage = std::current_exception();
    }
  }

  void step() {
    current = std::move(upcoming);
    shown = at::Tensor();
    if (current) look_ahead();
  }

  // Makes the frame on screen at `time` the current one; false when the last one has gone by then.
  bool advance(double time) {
    while (upcoming && upcoming->time <= time + slack) step();
    if (upcoming) return true;
    if (!damage) return time + slack < current->time + current->duration;
    if (time > current->time + slack) std::rethrow_exception(damage);
    return true;
  }

  const at::Tensor& picture() {
    if (!shown.defined()) {
      const AVFrame& frame = *current->frame;
      if (frame.height != stored_height || frame.width != stored_width) {
        const auto size = [](int64_t w, int64_t h) { return std::to_string(w) + "x" + std::to_string(h); };
        throw Error(ErrorKind::kMedia,
                    {.place = path.string(), .what = "its frames change size at " + std::to_string(current->time) + " s",
                     .expected = size(stored_width, stored_height), .got = size(frame.width, frame.height),
                     .hint = "convert it to one size first"});
      }
      shown = media::resize_picture(convert(frame, current->orientation), options.size);
    }
    return shown;
  }

  // The next frame that comes out; null at the end.
  const at::Tensor* next() {
    if (options.num_frames && given >= *options.num_frames) return nullptr;
    if (source->fps() > 0 && options.fps) {
      if (!advance(options.start + static_cast<double>(given) / *options.fps)) return nullptr;
    } else if (given > 0 && current) {
      step();
    }
    if (!current && damage) std::rethrow_exception(damage);
    if (!current) return nullptr;
    const at::Tensor& result = picture();
    ++given;
    return &result;
  }

  fs::path path;
  ReadOptions options;
  std::unique_ptr<media::FrameSource> source;
  media::RgbConverter convert;
  std::optional<media::TimedFrame> current, upcoming;
  std::exception_ptr damage;
  at::Tensor shown;  // the current frame as it comes out
  double slack = 0;
  int64_t given = 0;
  int64_t stored_height = 0, stored_width = 0;
  int64_t height = 0, width = 0;  // of the frames that come out
};

VideoReader::VideoReader(const fs::path& path, ReadOptions options) {
  check(options);
  impl_ = std::make_unique<Impl>(path, std::move(options));
}
VideoReader::~VideoReader() = default;
VideoReader::VideoReader(VideoReader&&) noexcept = default;
VideoReader& VideoReader::operator=(VideoReader&&) noexcept = default;

double VideoReader::fps() const {
  return impl_->source->fps() > 0 ? impl_->options.fps.value_or(impl_->source->fps()) : 0;
}

int64_t VideoReader::height() const { return impl_->height; }

int64_t VideoReader::width() const { return impl_->width; }

std::optional<int64_t> VideoReader::num_frames_hint() const {
  const media::FrameSource& source = *impl_->source;
  const ReadOptions& options = impl_->options;
  std::optional<int64_t> hint = source.count();
  if (source.fps() > 0 && (options.fps || options.start > 0)) {
    const auto seconds = source.seconds();
    if (!hint || !seconds) return std::nullopt;
    const double rate = options.fps.value_or(source.fps());
    hint = std::max<int64_t>(static_cast<int64_t>(std::ceil((*seconds - options.start) * rate - 1e-6)), 1);
  }
  if (hint && options.num_frames) hint = std::min(*hint, *options.num_frames);
  return hint;
}

at::Tensor VideoReader::read(int64_t count) try {
  if (count <= 0) {
    throw Error(ErrorKind::kArgument, {.place = "VideoReader::read", .what = "the count must be positive",
                                       .got = std::to_string(count)});
  }
  std::vector<at::Tensor> pictures;
  while (static_cast<int64_t>(pictures.size()) < count) {
    const at::Tensor* picture = nullptr;
    try {
      picture = impl_->next();
    } catch (const Error&) {
      if (pictures.empty()) throw;
      break;  // the good frames first; the next call meets the same damage
    }
    if (!picture) break;
    pictures.push_back(*picture);
  }
  return pictures.empty() ? at::Tensor() : at::stack(pictures);
} catch (...) {
  rethrow_as_error(impl_->path.string());
}

Video read_video(const fs::path& path, const ReadOptions& options) try {
  VideoReader reader(path, options);
  std::vector<at::Tensor> parts;
  while (true) {
    at::Tensor part = reader.read(64);
    if (!part.defined()) break;
    parts.push_back(std::move(part));
  }
  return {parts.size() == 1 ? parts[0] : at::cat(parts), reader.fps()};
} catch (...) {
  rethrow_as_error(path.string());
}

Video read_image(const fs::path& path, const ResizeOptions& size) {
  Video picture = read_video(path, {.num_frames = 2, .size = size});
  if (picture.num_frames() != 1) media::fail(path, "holds more than one picture", "give one picture, or give it as a video");
  return picture;
}

}  // namespace orrery
