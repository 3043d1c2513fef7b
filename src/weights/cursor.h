#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "orrery/error.h"
#include "weights/file.h"

namespace orrery::weights_detail {

/// Reads little-endian values from untrusted bytes; going past the end is an Error(kWeights) with `place`.
class Cursor {
 public:
  Cursor(Bytes bytes, const std::string& place) : bytes_(bytes), place_(&place) {}

  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }
  const std::string& place() const { return *place_; }

  Bytes take(uint64_t count) {
    if (count > left())
      throw Error(ErrorKind::kWeights, {.place = *place_,
                                        .what = "ends too early: " + std::to_string(count - left()) + " bytes are missing",
                                        .hint = "the file is incomplete or damaged; download it again"});
    const Bytes taken = bytes_.subspan(position_, count);
    position_ += count;
    return taken;
  }
  void seek(uint64_t position) {
    position_ = 0;
    take(position);
  }
  std::string_view text(uint64_t count) {
    const Bytes taken = take(count);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }
  /// Up to the next newline, which is taken too.
  std::string_view line() {
    const Bytes rest = bytes_.subspan(position_);
    const void* end = rest.empty() ? nullptr : std::memchr(rest.data(), '\n', rest.size());
    const size_t length = end ? static_cast<size_t>(static_cast<const std::byte*>(end) - rest.data()) : rest.size() + 1;
    const std::string_view line = text(length);
    take(1);
    return line;
  }
  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

 private:
  Bytes bytes_;
  const std::string* place_;
  size_t position_ = 0;
};

}  // namespace orrery::weights_detail
