#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "orrery/error.h"

namespace orrery::testing {

/// The message of the Error that `work` throws, "no error" if it throws none. If `kind` is given, another one is a failure.
template <typename Work>
std::string error_of(const Work& work, std::optional<ErrorKind> kind = std::nullopt) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind.value_or(error.kind())) << error.what();
    return error.what();
  }
  return "no error";
}

}  // namespace orrery::testing
