#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <tuple>

#include "media/frame_source.h"

namespace orrery::media {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

std::string first_bytes(const fs::path& path, size_t count) {
  std::string bytes(count, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(bytes.data(), static_cast<std::streamsize>(count));
  bytes.resize(static_cast<size_t>(file.gcount()));
  return bytes;
}

AVCodecID picture_codec(std::string_view bytes) {
  if (bytes.starts_with("\x89PNG\r\n\x1a\n"sv)) {
    // An animated PNG says so before its first pixels, and is a video.
    return bytes.substr(0, bytes.find("IDAT")).find("acTL") == bytes.npos ? AV_CODEC_ID_PNG : AV_CODEC_ID_NONE;
  }
  if (bytes.starts_with("\xff\xd8\xff"sv)) return AV_CODEC_ID_MJPEG;
  if (bytes.starts_with("RIFF"sv) && bytes.size() >= 12 && bytes.substr(8, 4) == "WEBP"sv) return AV_CODEC_ID_WEBP;
  if (bytes.starts_with("II*\0"sv) || bytes.starts_with("MM\0*"sv)) return AV_CODEC_ID_TIFF;
  if (bytes.starts_with("BM"sv)) return AV_CODEC_ID_BMP;
  if (bytes.size() > 2 && bytes[0] == 'P' && std::isspace(static_cast<unsigned char>(bytes[2]))) {
    if (bytes[1] == '5') return AV_CODEC_ID_PGM;
    if (bytes[1] == '6') return AV_CODEC_ID_PPM;
  }
  return AV_CODEC_ID_NONE;
}

bool has_picture_name(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(), [](unsigned char c) { return std::tolower(c); });
  constexpr std::array known = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"};
  return std::find(known.begin(), known.end(), extension) != known.end();
}

PacketPtr read_whole(const fs::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) fail(path, std::string("cannot be opened (") + std::strerror(errno) + ")");
  const auto size = static_cast<int64_t>(file.tellg());
  if (size < 0 || size > INT32_MAX - AV_INPUT_BUFFER_PADDING_SIZE) fail(path, "is no file that could be a picture");
  PacketPtr packet = new_packet();
  if (const int error = av_new_packet(packet.get(), static_cast<int>(size)); error < 0) fail(path, error_text(error));
  file.seekg(0);
  if (!file.read(reinterpret_cast<char*>(packet->data), size)) fail(path, "cannot be read");
  return packet;
}

// FFmpeg fills what a cut-off JPEG lacks with grey; the end marker tells.
bool is_cut_off(const AVPacket& packet, AVCodecID codec) {
  if (codec != AV_CODEC_ID_MJPEG) return false;
  return std::string_view(reinterpret_cast<const char*>(packet.data), packet.size).rfind("\xff\xd9") == std::string_view::npos;
}

// Pictures in the order of the last number in their names; names without one come after, by name.
using SortKey = std::tuple<bool, size_t, std::string, std::string>;
SortKey sort_key(const fs::path& path) {
  const std::string stem = path.stem().string();
  size_t end = stem.size();
  while (end > 0 && !std::isdigit(static_cast<unsigned char>(stem[end - 1]))) --end;
  size_t begin = end;
  while (begin > 0 && std::isdigit(static_cast<unsigned char>(stem[begin - 1]))) --begin;
  while (begin < end && stem[begin] == '0') ++begin;
  const std::string number = stem.substr(begin, end - begin);
  return {end == 0, number.size(), number, stem};
}

class Pictures : public FrameSource {
 public:
  Pictures(std::vector<fs::path> paths, double fps) : paths_(std::move(paths)), fps_(fps) {}

  std::optional<TimedFrame> next() override {
    if (index_ == paths_.size()) return std::nullopt;
    const fs::path& path = paths_[index_];
    TimedFrame picture = read_picture(path);
    const bool turned = picture.orientation.transpose;
    const int width = turned ? picture.frame->height : picture.frame->width;
    const int height = turned ? picture.frame->width : picture.frame->height;
    if (width_ == 0) {
      width_ = width;
      height_ = height;
    } else if (width != width_ || height != height_) {
      throw Error(ErrorKind::kMedia, {.place = path.string(), .what = "does not have the size of the pictures before it",
                                      .expected = std::to_string(width_) + "x" + std::to_string(height_) + " as " +
                                                  paths_.front().filename().string(),
                                      .got = std::to_string(width) + "x" + std::to_string(height),
                                      .hint = "bring all pictures of a sequence to one size"});
    }
    picture.time = fps_ > 0 ? static_cast<double>(index_) / fps_ : 0;
    picture.duration = fps_ > 0 ? 1 / fps_ : 1e-3;  // a single picture is there at time 0 only
    ++index_;
    return picture;
  }
  void seek(double time) override {
    if (fps_ > 0) index_ = static_cast<size_t>(std::clamp(time * fps_, 0.0, static_cast<double>(paths_.size() - 1)));
  }
  bool stills() const override { return true; }
  double fps() const override { return fps_; }
  double tick() const override { return 0; }
  std::optional<int64_t> count() const override { return static_cast<int64_t>(paths_.size()); }
  std::optional<double> seconds() const override { return fps_ > 0 ? static_cast<double>(paths_.size()) / fps_ : 0; }

 private:
  std::vector<fs::path> paths_;
  double fps_;
  size_t index_ = 0;
  int width_ = 0, height_ = 0;
};

}  // namespace

bool is_picture(const fs::path& path) { return picture_codec(first_bytes(path, 4096)) != AV_CODEC_ID_NONE; }

TimedFrame read_picture(const fs::path& path) {
  const AVCodecID id = picture_codec(first_bytes(path, 4096));
  if (id == AV_CODEC_ID_NONE) fail(path, "is no picture", "give PNG, JPEG, BMP, TIFF, WebP or PPM files");
  const AVCodec* decoder = avcodec_find_decoder(id);
  if (!decoder) {
    throw Error(ErrorKind::kUnsupported, {.place = path.string(), .what = std::string("this FFmpeg cannot decode ") +
                                                                          avcodec_get_name(id)});
  }
  CodecPtr codec = new_codec(decoder);
  codec->thread_count = 1;
  codec->err_recognition |= AV_EF_CRCCHECK;
  // For TIFF the flag also refuses every tag that FFmpeg does not know: what photo editors write.
  if (id != AV_CODEC_ID_TIFF) codec->err_recognition |= AV_EF_EXPLODE;
  PacketPtr packet = read_whole(path);
  TimedFrame picture{.frame = new_frame()};
  int error = avcodec_open2(codec.get(), decoder, nullptr);
  if (error >= 0) error = avcodec_send_packet(codec.get(), packet.get());
  if (error >= 0) error = avcodec_send_packet(codec.get(), nullptr);
  if (error >= 0) error = avcodec_receive_frame(codec.get(), picture.frame.get());
  if (error < 0 || is_damaged(*picture.frame) || is_cut_off(*packet, id)) {
    fail(path, "is a damaged picture" + (error < 0 ? " (" + error_text(error) + ")" : std::string(" (it is cut off)")),
         "fetch or make it again");
  }
  picture.orientation = orientation_of(display_matrix(*picture.frame));
  if (const AVDictionaryEntry* exif = av_dict_get(picture.frame->metadata, "Orientation", nullptr, 0)) {
    picture.orientation = orientation_of_exif(std::atoi(exif->value));
  }
  return picture;
}

fs::path NumberedPattern::name(int64_t number) const {
  std::string text = std::to_string(number);
  if (text.size() < static_cast<size_t>(digits)) text.insert(0, digits - text.size(), '0');
  return folder / (before + text + after);
}

std::optional<int64_t> NumberedPattern::number(const std::string& file_name) const {
  if (file_name.size() <= before.size() + after.size() || !file_name.starts_with(before) || !file_name.ends_with(after)) {
    return std::nullopt;
  }
  const std::string text = file_name.substr(before.size(), file_name.size() - before.size() - after.size());
  if (text.size() > 18 || !std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); })) return {};
  const int64_t number = std::stoll(text);
  return name(number).filename() == file_name ? std::optional(number) : std::nullopt;
}

std::optional<NumberedPattern> parse_pattern(const fs::path& path) {
  const std::string name = path.filename().string();
  const size_t percent = name.find('%');
  if (percent == name.npos) return std::nullopt;
  size_t end = percent + 1;
  while (end < name.size() && std::isdigit(static_cast<unsigned char>(name[end]))) ++end;
  const std::string width = name.substr(percent + 1, end - percent - 1);
  const bool understood = end < name.size() && name[end] == 'd' && width.size() <= 2 && (width.empty() || width[0] == '0') &&
                          name.find('%', end) == name.npos;
  if (!understood) {
    throw Error(ErrorKind::kArgument, {.place = path.string(), .what = "is no pattern for numbered pictures",
                                       .expected = "one %d or %05d in the file's name"});
  }
  return NumberedPattern{.before = name.substr(0, percent), .after = name.substr(end + 1),
                         .digits = width.empty() ? 0 : std::stoi(width), .folder = path.parent_path()};
}

std::vector<fs::path> list_pictures(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const bool hidden = entry.path().filename().string().starts_with('.');
    if (!hidden && has_picture_name(entry.path()) && !entry.is_directory()) paths.push_back(entry.path());
  }
  if (error) fail(folder, "cannot be listed (" + error.message() + ")");
  if (paths.empty()) fail(folder, "is a folder with no pictures in it", "give a folder of PNG or JPEG files, or a video file");
  std::sort(paths.begin(), paths.end(), [](const fs::path& a, const fs::path& b) { return sort_key(a) < sort_key(b); });
  return paths;
}

std::vector<fs::path> list_pictures(const NumberedPattern& pattern, const fs::path& path) {
  std::vector<std::pair<int64_t, fs::path>> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(pattern.folder.empty() ? "." : pattern.folder, error)) {
    if (const auto number = pattern.number(entry.path().filename().string())) found.emplace_back(*number, entry.path());
  }
  if (error) fail(path, "its folder cannot be listed (" + error.message() + ")");
  if (found.empty()) fail(path, "no file matches this pattern", "the first could be " + pattern.name(0).string());
  std::sort(found.begin(), found.end());
  std::vector<fs::path> paths;
  for (auto& [number, name] : found) paths.push_back(std::move(name));
  return paths;
}

std::unique_ptr<FrameSource> open_pictures(std::vector<fs::path> paths, double fps) {
  return std::make_unique<Pictures>(std::move(paths), fps);
}

}  // namespace orrery::media
