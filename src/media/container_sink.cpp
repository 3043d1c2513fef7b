#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>

#include "media/frame_sink.h"

namespace orrery::media {
namespace {

namespace fs = std::filesystem;

const AVCodec* find_encoder(const fs::path& path, const Container& container) {
  std::string names;
  for (const char* name : container.encoders) {
    if (const AVCodec* encoder = avcodec_find_encoder_by_name(name)) return encoder;
    names += (names.empty() ? "" : " or ") + std::string(name);
  }
  throw Error(ErrorKind::kUnsupported, {.place = path.string(), .what = "this FFmpeg has no encoder for it", .expected = names,
                                        .hint = "write .mkv (FFV1), or install an FFmpeg that has it"});
}

class ContainerSink : public FrameSink {
 public:
  ContainerSink(const fs::path& path, const Container& container, const WriteOptions& options)
      : path_(path), container_(container), options_(options), encoder_(find_encoder(path, container)),
        partial_(path, Partial::Kind::kFile) {}

  // A muxer may hold a packet back, which only its trailer lets go; what that writes into the unfinished file is thrown away.
  ~ContainerSink() override {
    if (header_written_) av_write_trailer(output_.get());
  }

  void write(const at::Tensor& picture) override {
    if (!codec_) open(picture);
    check(av_frame_make_writable(frame_.get()));
    if (yuv_) {
      (*yuv_)(picture, *frame_);
    } else if (frame_->format == AV_PIX_FMT_PAL8) {
      fill_palette_frame(picture, *frame_);
    } else {
      copy_rgb(picture, *frame_);
    }
    frame_->pts = av_rescale_q(index_++, av_inv_q(rate_), codec_->time_base);
    encode(frame_.get());
  }

  void finish() override {
    encode(nullptr);
    header_written_ = false;
    check(av_write_trailer(output_.get()));
    avio_flush(output_->pb);
    check(output_->pb->error);
    check(avio_closep(&output_->pb));
    output_.reset();
    partial_.move_to_target();
  }

 private:
  void check(int error) const {
    if (error < 0) fail_writing(path_, error);
  }

  void open(const at::Tensor& picture) {
    const bool halved = container_.pixels == AV_PIX_FMT_YUV420P;  // chroma of half size wants even sides
    const auto side = [halved](int64_t size) { return static_cast<int>(halved ? size + size % 2 : size); };
    const int height = side(picture.size(0)), width = side(picture.size(1));
    rate_ = av_d2q(options_.fps, 1001000);

    AVFormatContext* output = nullptr;
    const std::string url = "file:" + partial_.path().string();
    check(avformat_alloc_output_context2(&output, nullptr, container_.format, url.c_str()));
    output_.reset(output);
    quiet(*output);
    output->flags |= AVFMT_FLAG_BITEXACT;  // the same frames give the same bytes: no random ids, no version numbers

    codec_ = new_codec(encoder_);
    codec_->width = width;
    codec_->height = height;
    codec_->pix_fmt = container_.pixels;
    // GIF counts in hundredths of a second.
    codec_->time_base = container_.pixels == AV_PIX_FMT_PAL8 ? AVRational{1, 100} : av_inv_q(rate_);
    codec_->framerate = rate_;
    codec_->sample_aspect_ratio = {1, 1};
    codec_->thread_count = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 8u));
    if (halved) {
      // Readers that ignore the tag, and players that guess it, take BT.601 for what is small.
      codec_->colorspace = AVCOL_SPC_SMPTE170M;
      codec_->color_primaries = AVCOL_PRI_BT709;
      codec_->color_trc = AVCOL_TRC_BT709;
      codec_->color_range = AVCOL_RANGE_MPEG;
      codec_->chroma_sample_location = AVCHROMA_LOC_LEFT;
    }
    if (output->oformat->flags & AVFMT_GLOBALHEADER) codec_->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    Dictionary encoder_options;
    set_options(encoder_options);
    if (const int error = avcodec_open2(codec_.get(), encoder_, encoder_options.address()); error < 0) {
      fail(path_, "frames of " + std::to_string(width) + "x" + std::to_string(height) + " cannot be encoded as " +
                      encoder_->name + " (" + error_text(error) + ")",
           "choose another size or another container");
    }

    AVStream* stream = avformat_new_stream(output, nullptr);
    if (!stream) check(AVERROR(ENOMEM));
    check(avcodec_parameters_from_context(stream->codecpar, codec_.get()));
    stream->time_base = codec_->time_base;
    stream->avg_frame_rate = rate_;
    check(avio_open(&output->pb, url.c_str(), AVIO_FLAG_WRITE));
    Dictionary muxer_options;
    if (std::strcmp(container_.format, "mp4") == 0) muxer_options.set("movflags", "+faststart");
    check(avformat_write_header(output, muxer_options.address()));
    header_written_ = true;

    frame_ = new_frame();
    frame_->format = codec_->pix_fmt;
    frame_->width = width;
    frame_->height = height;
    frame_->color_range = codec_->color_range;
    frame_->colorspace = codec_->colorspace;
    check(av_frame_get_buffer(frame_.get(), 64));
    if (halved) yuv_.emplace(codec_->pix_fmt, width, height);
  }

  void set_options(Dictionary& options) const {
    const std::string name = encoder_->name;
    if (name == "libx264") {
      options.set("crf", std::to_string(options_.crf));
      options.set("preset", "medium");
    } else if (name == "libopenh264") {
      // It knows no quality, only a rate: half a bit a pixel is near crf 18.
      codec_->bit_rate = static_cast<int64_t>(0.5 * codec_->width * codec_->height * options_.fps);
    } else if (name == "libvpx-vp9") {
      options.set("crf", std::to_string(options_.crf * 63 / 51));
      codec_->bit_rate = 0;
      options.set("deadline", "good");
      options.set("cpu-used", "4");
      options.set("row-mt", "1");
    } else if (name == "ffv1") {
      options.set("level", "3");
      options.set("slicecrc", "1");
    }
  }

  void encode(const AVFrame* frame) {
    check(avcodec_send_frame(codec_.get(), frame));
    AVStream* stream = output_->streams[0];
    while (true) {
      PacketPtr packet = new_packet();
      const int error = avcodec_receive_packet(codec_.get(), packet.get());
      if (error == AVERROR(EAGAIN) || error == AVERROR_EOF) return;
      check(error);
      if (packet->duration <= 0) packet->duration = av_rescale_q(1, av_inv_q(rate_), codec_->time_base);
      av_packet_rescale_ts(packet.get(), codec_->time_base, stream->time_base);
      packet->stream_index = stream->index;
      check(av_interleaved_write_frame(output_.get(), packet.get()));
      check(output_->pb->error);
    }
  }

  fs::path path_;
  Container container_;
  WriteOptions options_;
  const AVCodec* encoder_;
  Partial partial_;  // outlives output_, which writes to it
  OutputPtr output_;
  CodecPtr codec_;
  FramePtr frame_;
  std::optional<YuvConverter> yuv_;
  AVRational rate_{24, 1};
  int64_t index_ = 0;
  bool header_written_ = false;
};

}  // namespace

std::unique_ptr<FrameSink> make_container_sink(const fs::path& path, const Container& container, const WriteOptions& options) {
  return std::make_unique<ContainerSink>(path, container, options);
}

}  // namespace orrery::media
