#include "kernels/isa.h"

#include <cstdlib>
#include <string>

#include "orrery/log.h"

namespace orrery::ops {
namespace {

// ORRERY_MAX_CPU_ISA=avx512 (avx2_vnni, avx2, sse4, ssse3) does with our own kernels what ATEN_CPU_CAPABILITY does with
// LibTorch's: to compare instruction sets, or to test what another machine will run. Read when the library is loaded, before
// any kernel is chosen.
[[maybe_unused]] const bool limited = [] {
  const char* most = std::getenv("ORRERY_MAX_CPU_ISA");
  if (!most) return false;
  if (kernels::limit_isa(most)) return true;
  log(LogLevel::kWarning,
      std::string("ORRERY_MAX_CPU_ISA=") + most + " is not known here: avx512, avx2_vnni, avx2, sse4, ssse3");
  return false;
}();

}  // namespace
}  // namespace orrery::ops
