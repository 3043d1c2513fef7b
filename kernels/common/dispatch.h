#pragma once

#include <type_traits>
#include <utility>

#include "kernels/common/numbers.h"

namespace orrery::kernels {

/// What a launcher answers for operands that it has no kernel for: the number of cudaErrorInvalidValue.
inline constexpr int kInvalidValue = 1;

/// Calls `with` with a value of the type that a number stands for; answers what it answers, or 0 if that is nothing.
template <class T, class With>
int with_type(With&& with) {
  if constexpr (std::is_void_v<decltype(with(T{}))>) {
    with(T{});
    return 0;
  } else {
    return with(T{});
  }
}
template <class With>
int for_half_type(Number type, With&& with) {
  switch (type) {
    case Number::kBFloat16: return with_type<BFloat16>(with);
    case Number::kFloat16: return with_type<Float16>(with);
    default: return kInvalidValue;
  }
}
template <class With>
int for_float_type(Number type, With&& with) {
  return type == Number::kFloat32 ? with_type<float>(with) : for_half_type(type, with);
}

/// How many blocks of `each` hold `count` items, along the first axis of a grid; 0, which no device starts, for more than it
/// has room for.
inline unsigned blocks_of(int64_t count, int64_t each) {
  const int64_t blocks = count / each + (count % each != 0);
  return blocks <= 0x7FFFFFFF ? static_cast<unsigned>(blocks) : 0;
}

inline bool aligned16(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

}  // namespace orrery::kernels
