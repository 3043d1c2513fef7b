#pragma once

// Every FFmpeg handle gets its RAII name here, and every difference between FFmpeg 5 and 8 is settled here.

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "orrery/error.h"

namespace orrery::media {

struct FrameDeleter {
  void operator()(AVFrame* frame) const { av_frame_free(&frame); }
};
struct PacketDeleter {
  void operator()(AVPacket* packet) const { av_packet_free(&packet); }
};
struct CodecDeleter {
  void operator()(AVCodecContext* codec) const { avcodec_free_context(&codec); }
};
struct InputDeleter {
  void operator()(AVFormatContext* input) const { avformat_close_input(&input); }
};
struct OutputDeleter {
  void operator()(AVFormatContext* output) const {
    avio_closep(&output->pb);
    avformat_free_context(output);
  }
};
struct ScalerDeleter {
  void operator()(SwsContext* scaler) const { sws_freeContext(scaler); }
};
using FramePtr = std::unique_ptr<AVFrame, FrameDeleter>;
using PacketPtr = std::unique_ptr<AVPacket, PacketDeleter>;
using CodecPtr = std::unique_ptr<AVCodecContext, CodecDeleter>;
using InputPtr = std::unique_ptr<AVFormatContext, InputDeleter>;
using OutputPtr = std::unique_ptr<AVFormatContext, OutputDeleter>;
using ScalerPtr = std::unique_ptr<SwsContext, ScalerDeleter>;

/// Options for FFmpeg, freed with the object; what FFmpeg consumed is taken out of it.
class Dictionary {
 public:
  Dictionary() = default;
  ~Dictionary() { av_dict_free(&dictionary_); }
  Dictionary(const Dictionary&) = delete;
  Dictionary& operator=(const Dictionary&) = delete;
  void set(const char* key, const std::string& value) { av_dict_set(&dictionary_, key, value.c_str(), 0); }
  AVDictionary** address() { return &dictionary_; }

 private:
  AVDictionary* dictionary_ = nullptr;
};

/// New, empty objects; they throw Error(kDevice) where FFmpeg has no memory.
FramePtr new_frame();
PacketPtr new_packet();
/// A codec context that keeps its messages to itself (see quiet()).
CodecPtr new_codec(const AVCodec* codec);

/// Keeps the messages of one object off the host's log. FFmpeg has one log level and one callback for the whole process, and
/// these belong to the host; but its log function adds an offset to the level of a message that it finds in the object
/// the message is about. A codec has a field for that offset. For a container and a scaler the object's class is replaced
/// by a copy that finds the offset in a field of ours. Not reachable are stream filters inside a few codecs (VP9's splitter)
/// and, in containers without stream headers (MPEG-TS and the like), the probing decoders: on damaged input of
/// these kinds FFmpeg may still say a line, at the level the host allows.
void quiet(AVCodecContext& codec);
void quiet(AVFormatContext& format);
void quiet(SwsContext& scaler);

/// FFmpeg's own words for an error number.
std::string error_text(int error);
/// Throws Error(kMedia) about `path`.
[[noreturn]] void fail(const std::filesystem::path& path, std::string what, std::string hint = {});
/// Throws Error(kDevice) or Error(kMedia) for something that the system or FFmpeg could not write (full disk, no right to).
[[noreturn]] void fail_writing(const std::filesystem::path& path, int error);

/// How long a decoded frame stays on screen, in units of its stream's time base; 0 where the file does not say.
int64_t frame_duration(const AVFrame& frame);
/// Whether the decoder patched over damage in this frame.
bool is_damaged(const AVFrame& frame);
/// A stream's display matrix (9 numbers), or null.
const int32_t* display_matrix(const AVStream& stream);
const int32_t* display_matrix(const AVFrame& frame);

}  // namespace orrery::media
