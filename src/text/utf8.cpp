#include "text/utf8.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "orrery/error.h"

namespace orrery::text {

void check_utf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  const auto size = static_cast<utf8proc_ssize_t>(text.size());
  for (utf8proc_ssize_t at = 0; at < size;) {
    utf8proc_int32_t code = 0;
    const utf8proc_ssize_t step = utf8proc_iterate(bytes + at, size - at, &code);
    if (step < 1)
      throw Error(ErrorKind::kArgument,
                  {.place = "text", .what = "is not UTF-8 at byte " + std::to_string(at), .hint = "convert it first"});
    at += step;
  }
}

std::pair<int32_t, size_t> first_character(std::string_view text) {
  int32_t code = 0;
  const utf8proc_ssize_t size = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                                 static_cast<utf8proc_ssize_t>(text.size()), &code);
  return {code, size > 0 ? static_cast<size_t>(size) : 1};
}

bool is_white_space(int32_t code) {
  return code == ' ' || (code >= 9 && code <= 13) || code == 0x85 || code == 0xA0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
         code == 0x3000;
}

std::string utf8_of(int32_t code) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t size = utf8proc_encode_char(utf8proc_codepoint_valid(code) ? code : 0xFFFD, bytes);
  return {reinterpret_cast<const char*>(bytes), static_cast<size_t>(size)};
}

std::string normalize_nfc(const std::string& text) {
  utf8proc_uint8_t* normalized = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &normalized, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(normalized, std::free);
  if (size < 0) throw Error(ErrorKind::kArgument, {.place = "text", .what = utf8proc_errmsg(size)});
  return {reinterpret_cast<const char*>(normalized), static_cast<size_t>(size)};
}

}  // namespace orrery::text
