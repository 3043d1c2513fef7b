#include "cpu_features.h"

#include <hwy/targets.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "orrery/log.h"

namespace orrery {
namespace {

// ORRERY_MAX_CPU_ISA=avx2 lets our own kernels use no more than that (sse4 and ssse3 likewise), as ATEN_CPU_CAPABILITY does
// with LibTorch's: to compare instruction sets, or to test what another machine will run. Read when the library is loaded,
// before any kernel is chosen.
[[maybe_unused]] const bool limited = [] {
  const char* most = std::getenv("ORRERY_MAX_CPU_ISA");
  if (!most) return false;
#if HWY_ARCH_X86
  for (const auto& [name, target] :
       {std::pair<std::string_view, int64_t>{"avx2", HWY_AVX2}, {"sse4", HWY_SSE4}, {"ssse3", HWY_SSSE3}})
    if (name == most) {
      hwy::DisableTargets(target - 1);  // the better a target, the lower its bit
      return true;
    }
#endif
  log(LogLevel::kWarning, std::string("ORRERY_MAX_CPU_ISA=") + most + " is not known here: avx2, sse4, ssse3");
  return false;
}();

}  // namespace

bool cpu_computes_fast_in(c10::ScalarType dtype) {
#if defined(__x86_64__)
  if (dtype == c10::ScalarType::BFloat16) return __builtin_cpu_supports("avx512bf16") || __builtin_cpu_supports("amx-bf16");
  if (dtype == c10::ScalarType::Half) return __builtin_cpu_supports("avx512fp16");
#endif
  return dtype == c10::ScalarType::Float || dtype == c10::ScalarType::Double;
}

}  // namespace orrery
