#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>

namespace orrery {

/// What a guardrail decides.
struct Verdict {
  bool allowed = true;
  std::string reason;  ///< why not; stands in the Error that the caller gets
};

/// Callbacks through which a program meets the duties of a model's licence. There are none unless they are set: nothing is
/// downloaded, and nothing pretends to check.
struct Guardrails {
  /// Sees the prompt before it is embedded, and may edit it. Rejected: Error(kArgument), and nothing is imagined.
  std::function<Verdict(std::string& prompt)> prompt;
  /// Sees frames float [1,3,T,H,W] in [-1,1] as they are decoded, `first` being the number of the first in the future, and
  /// may put others of the same shape in their place. Rejected: Error(kArgument), and no frame of these leaves.
  std::function<Verdict(at::Tensor& frames, int64_t first)> frames;
};

}  // namespace orrery
