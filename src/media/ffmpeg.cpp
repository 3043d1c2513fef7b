#include "media/ffmpeg.h"

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <new>

namespace orrery::media {
namespace {

// Added to a message's level, it is above every level a host can set (AV_LOG_TRACE is 56) and still fits the level's byte.
constexpr int kSilence = 100;

template <typename T>
T* check_memory(T* object) {
  if (!object) throw Error(ErrorKind::kDevice, {.place = "FFmpeg", .what = "out of memory"});
  return object;
}

AVClass with_offset_at(const AVClass& original, int offset) {
  AVClass copy = original;
  copy.log_level_offset_offset = offset;
  return copy;
}

}  // namespace

FramePtr new_frame() { return FramePtr(check_memory(av_frame_alloc())); }

PacketPtr new_packet() { return PacketPtr(check_memory(av_packet_alloc())); }

CodecPtr new_codec(const AVCodec* codec) {
  CodecPtr context(check_memory(avcodec_alloc_context3(codec)));
  quiet(*context);
  return context;
}

void quiet(AVCodecContext& codec) { codec.log_level_offset = kSilence; }

void quiet(AVFormatContext& format) {
  static const AVClass silent = with_offset_at(*avformat_get_class(), offsetof(AVFormatContext, opaque));
  const int silence = kSilence;
  static_assert(sizeof(format.opaque) >= sizeof(silence));
  std::memcpy(&format.opaque, &silence, sizeof(silence));  // the user's own field, which FFmpeg never looks into
  format.av_class = &silent;
}

void quiet(SwsContext& scaler) {
  // There is no field of ours. But the second parameter of the bicubic kernel is a double, 0.6 where none is set: saying 0.6
  // with another last byte changes nothing (the kernel has 24 bits), and that byte serves as the offset. On machines
  // of the other byte order the scaler just keeps its messages.
  const AVOption* parameter = av_opt_find(&scaler, "param1", nullptr, 0, 0);
  if (!parameter || std::endian::native != std::endian::little) return;
  const uint64_t bits = (std::bit_cast<uint64_t>(0.6) & ~uint64_t{0xff}) | kSilence;
  if (av_opt_set_double(&scaler, "param1", std::bit_cast<double>(bits), 0) < 0) return;
  static const AVClass silent = with_offset_at(*sws_get_class(), parameter->offset);
  *reinterpret_cast<const AVClass**>(&scaler) = &silent;  // an AVClass pointer is the first member of every AVOption object
}

std::string error_text(int error) {
  if (error == AVERROR_INVALIDDATA) return "the data are invalid";
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(error, text, sizeof(text));
  return text;
}

void fail(const std::filesystem::path& path, std::string what, std::string hint) {
  throw Error(ErrorKind::kMedia, {.place = path.string(), .what = std::move(what), .hint = std::move(hint)});
}

void fail_writing(const std::filesystem::path& path, int error) {
  const char* hint = "is the folder there, and may you write to it?";
  if (error == AVERROR(ENOSPC) || error == AVERROR(EDQUOT)) hint = "free some space or write to another disk";
  if (error == AVERROR(ENOMEM)) hint = "use smaller frames";
  fail(path, "cannot be written (" + error_text(error) + ")", hint);
}

int64_t frame_duration(const AVFrame& frame) {
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(57, 30, 100)
  return frame.duration;
#else
  return frame.pkt_duration;
#endif
}

bool is_damaged(const AVFrame& frame) { return frame.decode_error_flags != 0 || (frame.flags & AV_FRAME_FLAG_CORRUPT) != 0; }

const int32_t* display_matrix(const AVStream& stream) {
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 100)
  const AVPacketSideData* data = av_packet_side_data_get(stream.codecpar->coded_side_data,
                                                         stream.codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
  return data && data->size >= 9 * sizeof(int32_t) ? reinterpret_cast<const int32_t*>(data->data) : nullptr;
#else
  size_t size = 0;
  const uint8_t* data = av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
  return data && size >= 9 * sizeof(int32_t) ? reinterpret_cast<const int32_t*>(data) : nullptr;
#endif
}

const int32_t* display_matrix(const AVFrame& frame) {
  const AVFrameSideData* data = av_frame_get_side_data(&frame, AV_FRAME_DATA_DISPLAYMATRIX);
  return data && data->size >= 9 * sizeof(int32_t) ? reinterpret_cast<const int32_t*>(data->data) : nullptr;
}

}  // namespace orrery::media
