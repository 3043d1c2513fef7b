#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace orrery::text {

/// Throws Error(kArgument) that names the byte where `text` stops being UTF-8.
void check_utf8(std::string_view text);

/// The first code point of `text`, which is UTF-8 and not empty, and how many bytes it takes.
std::pair<int32_t, size_t> first_character(std::string_view text);
/// Whether it is white space to Unicode.
bool is_white_space(int32_t code);
/// The code point as UTF-8; what is none becomes U+FFFD.
std::string utf8_of(int32_t code);

/// `text` in Unicode normal form C.
std::string normalize_nfc(const std::string& text);

}  // namespace orrery::text
