#pragma once

#include <string>
#include <string_view>

namespace orrery::text {

/// Throws Error(kArgument) that names the byte where `text` stops being UTF-8.
void check_utf8(std::string_view text);

/// `text` in Unicode normal form C.
std::string normalize_nfc(const std::string& text);

}  // namespace orrery::text
