#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "weights/file.h"

namespace orrery::weights_detail {

/// A run of bytes in a file: as it is, or deflated.
struct Extent {
  uint64_t begin = 0;   ///< from the start of the file
  uint64_t stored = 0;  ///< bytes in the file
  uint64_t size = 0;    ///< bytes of content
  bool deflated = false;
};

/// Whether the bytes begin like a zip archive.
bool looks_like_zip(Bytes file);
/// The members of a zip or zip64 archive, by name; every extent lies inside the file. Throws Error(kWeights).
std::map<std::string, Extent> parse_zip(Bytes file, const std::string& place);
/// Inflates an extent into `out` (extent.size bytes); throws Error(kWeights) when it does not fill it exactly.
void inflate_into(Bytes file, const Extent& extent, std::byte* out, const std::string& place);
/// A small member as text, inflated when needed.
std::string member_text(Bytes file, const Extent& extent, const std::string& place);

}  // namespace orrery::weights_detail
