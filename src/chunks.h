#pragma once

#include <algorithm>
#include <cstdint>

namespace orrery {

/// One step of coding a clip: `count` units from `begin` on.
struct Chunk {
  int64_t begin = 0, count = 0;
  bool first = false;  ///< a window starts here: the network remembers nothing
  bool last = false;   ///< and ends here
};

/// Calls work(Chunk) over `total` units, in windows that start afresh (0: one window) and in chunks within them (0: a whole
/// window).
template <typename Work>
void for_each_chunk(int64_t total, int64_t window, int64_t chunk, const Work& work) {
  if (window <= 0) window = total;
  for (int64_t start = 0; start < total; start += window) {
    const int64_t end = std::min(total, start + window), step = chunk > 0 ? chunk : end - start;
    for (int64_t begin = start; begin < end; begin += step)
      work(Chunk{begin, std::min(step, end - begin), begin == start, begin + step >= end});
  }
}

}  // namespace orrery
