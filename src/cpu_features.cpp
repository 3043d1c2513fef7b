#include "cpu_features.h"

namespace orrery {

bool cpu_computes_fast_in(c10::ScalarType dtype) {
#if defined(__x86_64__)
  if (dtype == c10::ScalarType::BFloat16) return __builtin_cpu_supports("avx512bf16") || __builtin_cpu_supports("amx-bf16");
  if (dtype == c10::ScalarType::Half) return __builtin_cpu_supports("avx512fp16");
#endif
  return dtype == c10::ScalarType::Float || dtype == c10::ScalarType::Double;
}

}  // namespace orrery
