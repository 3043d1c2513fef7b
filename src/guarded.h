#pragma once

#include <c10/core/InferenceMode.h>

#include <string>
#include <utility>

#include "orrery/error.h"

namespace orrery {

/// Inside a catch block: throws what was caught on as an Error. Out of memory becomes kDevice naming the amount; a failure
/// inside LibTorch becomes kUnsupported with its first line; an Error goes on as it is. `place` says what was being done.
[[noreturn]] void rethrow_as_error(const std::string& place);
/// Whether it is the one that rethrow_as_error() makes of that.
bool is_out_of_memory(const Error& error);

/// Runs the library's work as every entry point must: under inference mode, with Error as the only exception that leaves.
template <typename Work>
decltype(auto) guarded(const std::string& place, Work&& work) {
  const c10::InferenceMode inference;
  try {
    return std::forward<Work>(work)();
  } catch (...) {
    rethrow_as_error(place);
  }
}

}  // namespace orrery
