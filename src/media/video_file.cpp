#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <new>
#include <string_view>
#include <thread>
#include <utility>

#include "media/frame_source.h"

namespace orrery::media {
namespace {

namespace fs = std::filesystem;

// Containers that may be opened: none that names other files (concat, HLS, DASH), since a video is untrusted input.
constexpr const char* kContainers =
    "mov,mp4,matroska,webm,avi,gif,apng,ivf,yuv4mpegpipe,nut,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,flv,ogg,asf,mxf,dv";

// Containers whose headers say all we need. Others are probed by decoding their first frames.
bool has_full_headers(std::string_view name) {
  for (const char* known : {"mov,mp4", "matroska", "avi", "gif", "apng", "ivf", "yuv4mpegpipe", "nut"}) {
    if (name.starts_with(known)) return true;
  }
  return false;
}

InputPtr open_input(const fs::path& path) {
  AVFormatContext* input = avformat_alloc_context();
  if (!input) throw Error(ErrorKind::kDevice, {.place = "FFmpeg", .what = "out of memory"});
  quiet(*input);
  Dictionary options;
  options.set("protocol_whitelist", "file");
  options.set("format_whitelist", kContainers);
  const int error = avformat_open_input(&input, ("file:" + path.string()).c_str(), nullptr, options.address());
  if (error < 0) {  // FFmpeg has freed the context
    std::string head(12, '\0');
    std::ifstream(path, std::ios::binary).read(head.data(), 12);
    if (head.substr(4, 4) == "ftyp" && (error == AVERROR_INVALIDDATA || error == AVERROR_EOF)) {
      fail(path, "is an incomplete MP4: its index is missing or damaged",
           "it was cut off while it was recorded or copied; fetch it again");
    }
    if (error != AVERROR_INVALIDDATA && error != AVERROR(EINVAL)) fail(path, "cannot be opened (" + error_text(error) + ")");
    fail(path, "is neither a video nor a picture that is known here",
         "give an MP4, MOV, MKV, WebM, AVI or GIF file, a picture, or a folder of pictures");
  }
  InputPtr owned(input);
  const std::string_view name = owned->iformat->name;
  if (has_full_headers(name)) {
    // Parsers would only refine what the headers say, and their messages cannot be kept from the host's log.
    // Animated pictures have none, but have FFmpeg add up the durations.
    if (name != "gif" && name != "apng") owned->flags |= AVFMT_FLAG_NOPARSE | AVFMT_FLAG_NOFILLIN;
  } else if (const int probed = avformat_find_stream_info(owned.get(), nullptr); probed < 0) {
    fail(path, "cannot be read (" + error_text(probed) + ")");
  }
  return owned;
}

int find_video_stream(const AVFormatContext& input) {
  int best = -1;
  for (unsigned i = 0; i < input.nb_streams; ++i) {
    const AVStream& stream = *input.streams[i];
    if (stream.codecpar->codec_type != AVMEDIA_TYPE_VIDEO || (stream.disposition & AV_DISPOSITION_ATTACHED_PIC)) continue;
    if (best < 0 || ((stream.disposition & AV_DISPOSITION_DEFAULT) &&
                     !(input.streams[best]->disposition & AV_DISPOSITION_DEFAULT))) {
      best = static_cast<int>(i);
    }
  }
  return best;
}

// What the time stamps of all packets say, for a container whose header names no rate.
double scan_fps(const fs::path& path, int index) {
  InputPtr input = open_input(path);
  PacketPtr packet = new_packet();
  int64_t count = 0, first = INT64_MAX, last = INT64_MIN, duration = 0;
  while (av_read_frame(input.get(), packet.get()) >= 0) {
    const int64_t time = packet->pts != AV_NOPTS_VALUE ? packet->pts : packet->dts;
    if (packet->stream_index == index && time != AV_NOPTS_VALUE) {
      ++count;
      first = std::min(first, time);
      if (time > last) duration = packet->duration;
      last = std::max(last, time);
    }
    av_packet_unref(packet.get());
  }
  const double base = av_q2d(input->streams[index]->time_base);
  if (count == 1 && duration > 0) return 1 / (static_cast<double>(duration) * base);
  if (count < 2 || last <= first) return 0;
  const double span = static_cast<double>(last - first) * base;
  const double fps = static_cast<double>(count - 1) / span;
  // Time stamps are rounded to the time base: take the usual rate that they may stand for.
  for (int rate = 1; rate <= 240; ++rate) {
    for (const double usual : {static_cast<double>(rate), rate * 1000 / 1001.0}) {
      if (std::abs(fps - usual) / usual <= base / span) return usual;
    }
  }
  return fps;
}

class VideoFile : public FrameSource {
 public:
  explicit VideoFile(const fs::path& path) : path_(path) {
    open();
    fps_ = find_fps();
    peeked_ = decode();
    if (!peeked_) {
      fail(path_, "has a video track but not a single frame", "it was cut off or never written to; fetch or record it again");
    }
  }

  std::optional<TimedFrame> next() override {
    if (peeked_) return std::exchange(peeked_, std::nullopt);
    return decode();
  }

  void seek(double time) override {
    // Below a second decoding from the start is as fast; and only these containers keep a dependable index.
    const std::string_view name = input_->iformat->name;
    if (time < 1 || !(name.starts_with("mov") || name.starts_with("matroska"))) return;
    const auto target = first_ + static_cast<int64_t>(std::floor(time / base_));
    if (av_seek_frame(input_.get(), stream_->index, target, AVSEEK_FLAG_BACKWARD) >= 0) {
      avcodec_flush_buffers(codec_.get());
      counting_ = false;
      trusted_from_ = time - 1;
      previous_ = -1;
      peeked_ = decode();
      if (peeked_ && peeked_->time <= time) return;
    }
    open();
    peeked_.reset();
  }

  bool stills() const override { return false; }
  double fps() const override { return fps_; }
  double tick() const override { return base_; }
  std::optional<int64_t> count() const override {
    return stream_->nb_frames > 0 ? std::optional(stream_->nb_frames) : std::nullopt;
  }
  std::optional<double> seconds() const override {
    if (stream_->duration != AV_NOPTS_VALUE && stream_->duration > 0) return static_cast<double>(stream_->duration) * base_;
    if (input_->duration != AV_NOPTS_VALUE && input_->duration > 0) return static_cast<double>(input_->duration) / AV_TIME_BASE;
    return std::nullopt;
  }

 private:
  void open() {
    codec_.reset();
    input_ = open_input(path_);
    const int index = find_video_stream(*input_);
    if (index < 0) fail(path_, "holds no video", "give a file with a video track");
    stream_ = input_->streams[index];
    base_ = av_q2d(stream_->time_base);
    for (unsigned i = 0; i < input_->nb_streams; ++i) {
      if (static_cast<int>(i) != index) input_->streams[i]->discard = AVDISCARD_ALL;
    }
    const AVCodec* decoder = avcodec_find_decoder(stream_->codecpar->codec_id);
    if (!decoder) {
      throw Error(ErrorKind::kUnsupported,
                  {.place = path_.string(),
                   .what = std::string("this FFmpeg cannot decode ") + avcodec_get_name(stream_->codecpar->codec_id),
                   .hint = "convert it to H.264 first"});
    }
    codec_ = new_codec(decoder);
    int error = avcodec_parameters_to_context(codec_.get(), stream_->codecpar);
    codec_->pkt_timebase = stream_->time_base;
    codec_->thread_count = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 8u));
    codec_->err_recognition |= AV_EF_CRCCHECK;
    if (error >= 0) error = avcodec_open2(codec_.get(), decoder, nullptr);
    if (error == AVERROR(ENOMEM) || error == AVERROR(EAGAIN)) throw std::bad_alloc();  // no room for it or for its threads
    if (error < 0) fail(path_, "its video cannot be decoded (" + error_text(error) + ")");
    orientation_ = orientation_of(display_matrix(*stream_));
    expected_packets_ = avformat_index_get_entries_count(stream_);
    packets_ = frames_ = 0;
    counting_ = true;
    draining_ = false;
    damage_.clear();
    previous_ = -1;
    trusted_from_ = -1;
  }

  double find_fps() const {
    const std::string_view name = input_->iformat->name;
    const int entries = avformat_index_get_entries_count(stream_);
    if ((name.starts_with("mov") || name.starts_with("avi")) && entries > 1) {
      const auto time = [this](int i) { return avformat_index_get_entry(stream_, i)->timestamp; };
      const int64_t step = time(1) - time(0);
      bool constant = step > 0;
      for (int i = 2; constant && i < entries; ++i) constant = time(i) - time(i - 1) == step;
      if (constant) return 1 / (static_cast<double>(step) * base_);
      if (const double length = seconds().value_or(0); length > 0) return entries / length;
    }
    for (const AVRational rate : {stream_->avg_frame_rate, stream_->r_frame_rate}) {
      if (rate.num > 0 && rate.den > 0) return av_q2d(rate);
    }
    const double scanned = scan_fps(path_, stream_->index);
    return scanned > 0 ? scanned : 24;
  }

  // Feeds one packet; false when nothing is left to feed.
  bool feed() {
    if (draining_) return false;
    PacketPtr packet = new_packet();
    int error = 0;
    do {
      av_packet_unref(packet.get());
      error = av_read_frame(input_.get(), packet.get());
    } while (error >= 0 && packet->stream_index != stream_->index);
    if (error >= 0) {
      ++packets_;
      if (packet->flags & AV_PKT_FLAG_CORRUPT) {
        damage_ = "a frame is cut off";
      } else if (const int sent = avcodec_send_packet(codec_.get(), packet.get()); sent < 0) {
        if (sent == AVERROR(ENOMEM)) throw std::bad_alloc();
        damage_ = error_text(sent);
      }
    } else if (error != AVERROR_EOF) {
      if (error == AVERROR(ENOMEM)) throw std::bad_alloc();
      damage_ = error_text(error);
    } else if (counting_ && packets_ < expected_packets_) {
      damage_ = "the file ends after " + std::to_string(packets_) + " of " + std::to_string(expected_packets_) + " frames";
    } else if (is_cut_off()) {
      damage_ = "the file is shorter than its first bytes say";
    }
    if (error < 0 || !damage_.empty()) {  // the frames before the damage are still to come out
      avcodec_send_packet(codec_.get(), nullptr);
      draining_ = true;
    }
    return true;
  }

  bool is_cut_off() const {
    std::error_code error;
    const uintmax_t size = fs::file_size(path_, error);
    return !error && size < stated_size(path_).value_or(0);
  }

  [[noreturn]] void fail_damaged() const {
    const std::string count = std::to_string(frames_) + (frames_ == 1 ? " good frame" : " good frames");
    const bool usable = counting_ && frames_ > 0;
    fail(path_, "is damaged" + (counting_ ? " after " + count : std::string()) + " (" + damage_ + ")",
         "fetch or record it again" + (usable ? ", or read only the first " + count : std::string()));
  }

  std::optional<TimedFrame> decode() {
    TimedFrame result{.frame = new_frame()};
    while (true) {
      const int error = avcodec_receive_frame(codec_.get(), result.frame.get());
      if (error == AVERROR(EAGAIN) && feed()) continue;
      if (error == AVERROR(ENOMEM)) throw std::bad_alloc();  // not the file's fault
      if (error < 0 && error != AVERROR_EOF && error != AVERROR(EAGAIN)) damage_ = error_text(error);
      if (error < 0 && !damage_.empty()) fail_damaged();
      if (error < 0) return std::nullopt;
      const double before = previous_;
      set_time(result);
      if (before >= 0) {
        // Behind the damage, frames that refer back come out before ones that are lost: these follow after a gap.
        if (!damage_.empty() && result.time - before > 1.5 * least_gap_) fail_damaged();
        least_gap_ = std::min(least_gap_, result.time - before);
      }
      if (!is_damaged(*result.frame)) break;
      // After a seek the first frames may lack what they refer to; they lie before the place that is wanted.
      if (result.time >= trusted_from_) {
        damage_ = "a frame cannot be decoded whole";
        fail_damaged();
      }
    }
    ++frames_;
    return result;
  }

  void set_time(TimedFrame& result) {
    const AVFrame& frame = *result.frame;
    const double step = 1 / fps_;
    const int64_t stamp = frame.best_effort_timestamp;
    if (first_ == AV_NOPTS_VALUE) first_ = stamp;
    double time = stamp == AV_NOPTS_VALUE ? -1 : static_cast<double>(stamp - first_) * base_;
    // Some AVI files have no usable times; their frames come at a constant rate.
    if (time <= previous_ || stamp == AV_NOPTS_VALUE) time = previous_ < 0 ? 0 : previous_ + step;
    previous_ = time;
    result.time = time;
    // MP4 orders durations as it stores the frames, not as it shows them; what counts is the last one's, to the end of all.
    double duration = static_cast<double>(frame_duration(frame)) * base_;
    if (std::string_view(input_->iformat->name).starts_with("mov")) duration = seconds().value_or(0) - time;
    result.duration = duration > 0 ? duration : step;
    result.orientation = orientation_;
  }

  fs::path path_;
  InputPtr input_;
  CodecPtr codec_;
  AVStream* stream_ = nullptr;
  double base_ = 0, fps_ = 0;
  Orientation orientation_;
  int64_t first_ = AV_NOPTS_VALUE;  // time stamp of the first frame
  double previous_ = -1;
  double least_gap_ = std::numeric_limits<double>::infinity();  // between two frames so far
  double trusted_from_ = -1;
  int64_t packets_ = 0, expected_packets_ = 0, frames_ = 0;
  bool counting_ = true;  // packets_ and frames_ count from the file's start
  bool draining_ = false;
  std::string damage_;
  std::optional<TimedFrame> peeked_;
};

}  // namespace

std::unique_ptr<FrameSource> open_video_file(const fs::path& path) { return std::make_unique<VideoFile>(path); }

}  // namespace orrery::media
