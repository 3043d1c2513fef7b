#pragma once

#include <cstdint>

#include "orrery/export.h"

namespace orrery {

/// Bytes of freed tensors that keep_tensor_pages() holds at most, unless told otherwise.
inline constexpr int64_t kMostKeptBytes = int64_t{256} << 20;

/// Makes LibTorch's CPU tensors of 1 MiB and more lie in mappings of their own, in huge pages where the system has them, and
/// keeps the pages of freed ones, `most_kept` bytes at most, for the next tensor of about that size. A transformer frees and
/// asks again for the same few megabytes hundreds of times in a pass; without this the system clears each page every time (a
/// tenth of a pass of Wan 1.3B). What is in use and what is kept together exceed what was in use at the peak by 64 MiB at
/// most. It concerns the whole process, so it is left to the program: call it once, before the first tensor. Later calls,
/// and calls on systems other than Linux, do nothing.
ORRERY_API void keep_tensor_pages(int64_t most_kept = kMostKeptBytes);

}  // namespace orrery
