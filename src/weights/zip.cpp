#include "weights/zip.h"

#include <zlib.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "weights/cursor.h"

namespace orrery::weights_detail {
namespace {

// PKWARE APPNOTE 6.3: the records that are used here.
constexpr uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50,
                   kEnd64Locator = 0x07064b50;
constexpr size_t kEndBytes = 22, kLocatorBytes = 20, kLocalBytes = 30;
constexpr uint16_t kZip64Extra = 1;
constexpr uint32_t kIn64 = 0xffffffff;
// Deflate cannot shrink further than this; a larger claim is a bomb.
constexpr uint64_t kMaxRatio = 1032;

[[noreturn]] void damaged(const std::string& place, std::string what) {
  throw Error(ErrorKind::kWeights,
              {.place = place, .what = std::move(what), .hint = "the file is incomplete or damaged; download it again"});
}

struct Directory {
  uint64_t begin = 0, entries = 0;
};

Directory find_directory(Bytes file, const std::string& place) {
  // The end record stands last, but for a comment of up to 64 KiB.
  if (file.size() < kEndBytes) damaged(place, "is too short for a zip archive");
  const size_t first = file.size() - std::min<size_t>(file.size(), kEndBytes + 0xffff);
  for (size_t at = file.size() - kEndBytes + 1; at-- > first;) {
    Cursor cursor(file, place);
    cursor.seek(at);
    if (cursor.number<uint32_t>() != kEnd) continue;
    cursor.take(6);
    Directory directory;
    directory.entries = cursor.number<uint16_t>();
    cursor.take(4);
    directory.begin = cursor.number<uint32_t>();
    if (directory.begin != kIn64 && directory.entries != 0xffff) return directory;
    if (at < kLocatorBytes) return directory;
    cursor.seek(at - kLocatorBytes);
    if (cursor.number<uint32_t>() != kEnd64Locator) return directory;
    cursor.take(4);
    cursor.seek(cursor.number<uint64_t>());
    if (cursor.number<uint32_t>() != kEnd64) damaged(place, "has a broken zip64 end record");
    cursor.take(28);
    directory.entries = cursor.number<uint64_t>();
    cursor.take(8);
    directory.begin = cursor.number<uint64_t>();
    return directory;
  }
  damaged(place, "is a zip archive without its end");
}

}  // namespace

bool looks_like_zip(Bytes file) {
  uint32_t magic = 0;
  if (file.size() < sizeof magic) return false;
  std::memcpy(&magic, file.data(), sizeof magic);
  return magic == kLocalHeader || magic == kEnd;
}

std::map<std::string, Extent> parse_zip(Bytes file, const std::string& place) {
  const Directory directory = find_directory(file, place);
  std::map<std::string, Extent> members;
  Cursor cursor(file, place);
  cursor.seek(directory.begin);
  for (uint64_t i = 0; i < directory.entries; ++i) {
    if (cursor.number<uint32_t>() != kCentralHeader) damaged(place, "has a broken zip directory");
    cursor.take(4);
    const auto flags = cursor.number<uint16_t>(), method = cursor.number<uint16_t>();
    cursor.take(8);
    uint64_t stored = cursor.number<uint32_t>(), size = cursor.number<uint32_t>();
    const auto name_bytes = cursor.number<uint16_t>(), extra_bytes = cursor.number<uint16_t>(),
               comment_bytes = cursor.number<uint16_t>();
    cursor.take(8);
    uint64_t header = cursor.number<uint32_t>();
    const std::string name(cursor.text(name_bytes));
    const std::string member = place + ": " + name;
    Cursor extra(cursor.take(extra_bytes), member);
    cursor.take(comment_bytes);
    while (extra.left() >= 4) {
      const auto id = extra.number<uint16_t>(), length = extra.number<uint16_t>();
      Cursor field(extra.take(length), member);
      if (id != kZip64Extra) continue;
      for (uint64_t* value : {&size, &stored, &header})
        if (*value == kIn64) *value = field.number<uint64_t>();
    }
    if (flags & 1) damaged(member, "is encrypted");
    if (method != 0 && method != Z_DEFLATED)
      throw Error(ErrorKind::kUnsupported, {.place = member,
                                            .what = "is compressed by a method that cannot be read",
                                            .expected = "stored or deflated",
                                            .got = "method " + std::to_string(method)});
    if (method == 0 ? stored != size : size / kMaxRatio > stored) damaged(member, "has impossible sizes");

    Cursor local(file, member);
    local.seek(header);
    if (local.number<uint32_t>() != kLocalHeader) damaged(member, "has no header of its own");
    local.seek(header + kLocalBytes - 4);
    const auto local_name = local.number<uint16_t>(), local_extra = local.number<uint16_t>();
    local.take(static_cast<uint64_t>(local_name) + local_extra);
    const Extent extent{local.position(), stored, size, method != 0};
    local.take(stored);
    if (!members.emplace(name, extent).second) damaged(member, "stands twice in the archive");
  }
  return members;
}

void inflate_into(Bytes file, const Extent& extent, std::byte* out, const std::string& place) {
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) damaged(place, "cannot be inflated");
  const std::unique_ptr<z_stream, int (*)(z_stream*)> end(&stream, inflateEnd);
  const std::byte* next = file.data() + extent.begin;
  uint64_t in_left = extent.stored, out_left = extent.size;
  int status = Z_OK;
  stream.next_out = reinterpret_cast<Bytef*>(out);
  while (status == Z_OK) {
    // zlib counts in 32 bits.
    constexpr uint64_t kMost = std::numeric_limits<uInt>::max();
    if (stream.avail_in == 0) {
      stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(next));
      stream.avail_in = static_cast<uInt>(std::min(kMost, in_left));
      next += stream.avail_in;
      in_left -= stream.avail_in;
    }
    if (stream.avail_out == 0) {
      stream.avail_out = static_cast<uInt>(std::min(kMost, out_left));
      out_left -= stream.avail_out;
    }
    status = inflate(&stream, Z_NO_FLUSH);
  }
  if (status != Z_STREAM_END || out_left != 0 || stream.avail_out != 0) damaged(place, "has damaged compressed data");
}

std::string member_text(Bytes file, const Extent& extent, const std::string& place) {
  if (!extent.deflated) return {reinterpret_cast<const char*>(file.data()) + extent.begin, extent.size};
  std::string text(extent.size, '\0');
  inflate_into(file, extent, reinterpret_cast<std::byte*>(text.data()), place);
  return text;
}

}  // namespace orrery::weights_detail
