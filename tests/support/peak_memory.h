#pragma once

#include <cstdint>
#include <functional>

namespace orrery::testing {

/// Whether peak_memory_of() can be had here: the kernel must let a process reset its peak, and a sanitizer's own memory
/// would be in the way.
bool can_measure_peak_memory();

/// Bytes of this process that lay in RAM at the peak of `work`, above what did before it.
int64_t peak_memory_of(const std::function<void()>& work);

}  // namespace orrery::testing
