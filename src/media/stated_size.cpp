#include <cstdint>
#include <fstream>
#include <string>

#include "media/frame_source.h"

namespace orrery::media {
namespace {

// Reads one EBML number at `at`, its length marker taken off; moves `at` behind it. Empty past the end or where all bits are
// set, which means "not known".
std::optional<uint64_t> read_ebml_size(const std::string& bytes, size_t& at) {
  if (at >= bytes.size()) return std::nullopt;
  const auto first = static_cast<uint8_t>(bytes[at]);
  int length = 1;
  while (length <= 8 && !(first & (0x100 >> length))) ++length;
  if (length > 8 || at + length > bytes.size()) return std::nullopt;
  uint64_t value = first & (0xff >> length);
  for (int i = 1; i < length; ++i) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  at += length;
  return value == (uint64_t{1} << (7 * length)) - 1 ? std::nullopt : std::optional(value);
}

}  // namespace

std::optional<uint64_t> stated_size(const std::filesystem::path& path) {
  std::string head(4096, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(file.gcount()));
  if (head.starts_with("RIFF") && head.size() >= 8) {
    uint64_t size = 0;
    for (int i = 7; i >= 4; --i) size = size << 8 | static_cast<uint8_t>(head[i]);
    return size > 0 && size < UINT32_MAX ? std::optional(size + 8) : std::nullopt;
  }
  if (!head.starts_with("\x1a\x45\xdf\xa3")) return std::nullopt;
  size_t at = 4;
  const std::optional<uint64_t> header = read_ebml_size(head, at);
  if (!header || *header > head.size() - at) return std::nullopt;
  at += *header;
  if (head.compare(at, 4, "\x18\x53\x80\x67") != 0) return std::nullopt;
  at += 4;
  const std::optional<uint64_t> segment = read_ebml_size(head, at);
  return segment ? std::optional(*segment + at) : std::nullopt;
}

}  // namespace orrery::media
