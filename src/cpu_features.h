#pragma once

#include <c10/core/ScalarType.h>

namespace orrery {

/// Whether this processor has instructions for arithmetic in `dtype`. Where it has none LibTorch still computes, hundreds of
/// times slower than in float32.
bool cpu_computes_fast_in(c10::ScalarType dtype);

}  // namespace orrery
