#include "kernels/isa.h"

#include <hwy/targets.h>

#include <cstdint>
#include <utility>

namespace orrery::kernels {

bool limit_isa([[maybe_unused]] std::string_view most) {
#if HWY_ARCH_X86
  for (const auto& [name, target] :
       {std::pair<std::string_view, int64_t>{"avx2", HWY_AVX2}, {"sse4", HWY_SSE4}, {"ssse3", HWY_SSSE3}})
    if (name == most) {
      hwy::DisableTargets(target - 1);  // the better a target, the lower its bit
      return true;
    }
#endif
  return false;
}

}  // namespace orrery::kernels
