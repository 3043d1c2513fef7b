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
