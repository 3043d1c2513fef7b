#include "kernels/isa.h"

#include <hwy/targets.h>

#include <cstdint>
#include <utility>

#if HWY_ARCH_X86_64 && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace orrery::kernels {
namespace {

bool tiles_forbidden = false, avx_vnni_allowed = true;

bool find_tiles() {
#if HWY_ARCH_X86_64 && defined(__linux__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25, kBFloat16 = 1u << 22, kAll = kTile | kInt8 | kBFloat16;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kAll) != kAll) return false;
  // Linux saves tiles only for processes that asked. It may refuse: an old kernel, a sandbox, a thread whose stack for
  // signals is too small for them.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace

bool limit_isa([[maybe_unused]] std::string_view most) {
#if HWY_ARCH_X86
  using Name = std::pair<std::string_view, int64_t>;
  for (const auto& [name, target] :
       {Name{"avx512", 0}, Name{"avx2_vnni", HWY_AVX2}, Name{"avx2", HWY_AVX2}, Name{"sse4", HWY_SSE4},
        Name{"ssse3", HWY_SSSE3}})
    if (name == most) {
      tiles_forbidden = true;
      avx_vnni_allowed = name == "avx2_vnni";
      if (target != 0) hwy::DisableTargets(target - 1);  // the better a target, the lower its bit
      return true;
    }
#endif
  return false;
}

bool has_tiles() {
  static const bool found = !tiles_forbidden && find_tiles();
  return found;
}

bool allows_avx_vnni() {
  return avx_vnni_allowed;
}

}  // namespace orrery::kernels
