#include <cerrno>
#include <cstdio>

#include "media/frame_sink.h"

namespace orrery::media {
namespace {

namespace fs = std::filesystem;

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

/// Compresses pictures and stores each as a file.
class PictureEncoder {
 public:
  explicit PictureEncoder(bool jpeg) : jpeg_(jpeg) {}

  void store(const at::Tensor& picture, const fs::path& path, const fs::path& shown) {
    PacketPtr packet = encode(picture, shown);
    std::unique_ptr<std::FILE, FileCloser> file(std::fopen(path.c_str(), "wbe"));
    if (!file) fail_writing(shown, AVERROR(errno));
    const bool written = std::fwrite(packet->data, 1, packet->size, file.get()) == static_cast<size_t>(packet->size);
    if (!written || std::fflush(file.get()) != 0) fail_writing(shown, AVERROR(errno));
    if (std::fclose(file.release()) != 0) fail_writing(shown, AVERROR(errno));
  }

 private:
  PacketPtr encode(const at::Tensor& picture, const fs::path& shown) {
    const AVCodec* encoder = avcodec_find_encoder(jpeg_ ? AV_CODEC_ID_MJPEG : AV_CODEC_ID_PNG);
    if (!encoder) throw Error(ErrorKind::kUnsupported, {.place = shown.string(), .what = "this FFmpeg has no encoder for it"});
    CodecPtr codec = new_codec(encoder);
    codec->width = static_cast<int>(picture.size(1));
    codec->height = static_cast<int>(picture.size(0));
    codec->pix_fmt = jpeg_ ? AV_PIX_FMT_YUVJ444P : AV_PIX_FMT_RGB24;
    codec->color_range = AVCOL_RANGE_JPEG;
    codec->time_base = {1, 1};
    codec->thread_count = 1;
    if (jpeg_) {
      codec->flags |= AV_CODEC_FLAG_QSCALE;
      codec->global_quality = 2 * FF_QP2LAMBDA;  // near quality 95 of other programs
    }
    FramePtr frame = new_frame();
    frame->format = codec->pix_fmt;
    frame->width = codec->width;
    frame->height = codec->height;
    frame->color_range = codec->color_range;
    frame->quality = codec->global_quality;
    frame->pts = 0;
    int error = avcodec_open2(codec.get(), encoder, nullptr);
    if (error >= 0) error = av_frame_get_buffer(frame.get(), 64);
    PacketPtr packet = new_packet();
    if (error >= 0) {
      if (jpeg_) {
        YuvConverter(codec->pix_fmt, codec->width, codec->height)(picture, *frame);
      } else {
        copy_rgb(picture, *frame);
      }
      error = avcodec_send_frame(codec.get(), frame.get());
    }
    if (error >= 0) error = avcodec_send_frame(codec.get(), nullptr);
    if (error >= 0) error = avcodec_receive_packet(codec.get(), packet.get());
    if (error < 0) fail(shown, "the picture cannot be encoded (" + error_text(error) + ")", "choose another size");
    return packet;
  }

  bool jpeg_;
};

class OnePicture : public FrameSink {
 public:
  OnePicture(const fs::path& path, bool jpeg) : path_(path), encoder_(jpeg), partial_(path, Partial::Kind::kFile) {}

  void write(const at::Tensor& picture) override {
    if (written_) {
      throw Error(ErrorKind::kArgument, {.place = path_.string(), .what = "a picture holds one frame",
                                         .hint = "write a video, a folder, or a pattern like frames/%05d.png"});
    }
    encoder_.store(picture, partial_.path(), path_);
    written_ = true;
  }
  void finish() override { partial_.move_to_target(); }

 private:
  fs::path path_;
  PictureEncoder encoder_;
  Partial partial_;
  bool written_ = false;
};

class Sequence : public FrameSink {
 public:
  Sequence(const NumberedPattern& pattern, bool jpeg)
      : pattern_(pattern), encoder_(jpeg), in_place_(check_folder(pattern.folder)),
        // A folder that is there may be a mount: then the pictures wait inside it.
        partial_(in_place_ ? pattern.folder / "frames" : pattern.folder, Partial::Kind::kFolder) {}

  void write(const at::Tensor& picture) override {
    encoder_.store(picture, partial_.path() / pattern_.name(count_).filename(), pattern_.name(count_));
    ++count_;
  }

  void finish() override {
    if (!in_place_) {
      partial_.move_to_target();  // at one stroke
      return;
    }
    std::error_code error;
    for (int64_t i = 0; i < count_; ++i) {
      fs::rename(partial_.path() / pattern_.name(i).filename(), pattern_.name(i), error);
      if (error) fail_writing(pattern_.name(i), AVERROR(error.value()));
    }
    // What an earlier, longer sequence left would be read as the end of this one.
    std::vector<fs::path> left_over;
    for (const fs::directory_entry& entry : fs::directory_iterator(pattern_.folder, error)) {
      const auto number = pattern_.number(entry.path().filename().string());
      if (number && *number >= count_) left_over.push_back(entry.path());
    }
    for (const fs::path& path : left_over) fs::remove(path, error);
  }

 private:
  // Whether the folder is there already.
  static bool check_folder(const fs::path& folder) {
    std::error_code error;
    const fs::file_status status = fs::status(folder, error);
    if (fs::exists(status) && !fs::is_directory(status)) fail(folder, "is a file, not a folder", "choose another place");
    return fs::exists(status);
  }

  NumberedPattern pattern_;
  PictureEncoder encoder_;
  bool in_place_;
  Partial partial_;
  int64_t count_ = 0;
};

}  // namespace

std::unique_ptr<FrameSink> make_picture_sink(const fs::path& path, bool jpeg) {
  return std::make_unique<OnePicture>(path, jpeg);
}

std::unique_ptr<FrameSink> make_sequence_sink(const NumberedPattern& pattern, bool jpeg) {
  return std::make_unique<Sequence>(pattern, jpeg);
}

}  // namespace orrery::media
