#pragma once

#include <stdexcept>
#include <string>

#include "orrery/export.h"

namespace orrery {

/// What kind of thing went wrong; the only thing a caller should branch on.
enum class ErrorKind {
  kArgument,     ///< the caller asked for something that makes no sense
  kConfig,       ///< a config file is missing, malformed, or says something unknown
  kWeights,      ///< a checkpoint is damaged, incomplete, or of another model
  kMedia,        ///< a video or picture cannot be read or written
  kDevice,       ///< memory, disk or accelerator gave out
  kUnsupported,  ///< sensible, but this build or model cannot do it
  kCancelled,    ///< a CancellationToken was raised
};

/// The lower-case name of a kind as it stands in messages ("argument", "weights", …).
ORRERY_API const char* to_string(ErrorKind kind);

/// The parts of a message. `place` and `what` are required; the others may be empty.
struct ErrorDetail {
  std::string place;     ///< file, tensor or option the error is about, e.g. "model.safetensors: decoder.conv1.weight"
  std::string what;      ///< what is wrong with it, e.g. "has the wrong shape"
  std::string expected;  ///< what would have been right
  std::string got;       ///< what was there
  std::string hint;      ///< what the user can do about it
};

/// The only exception type that orrery throws on purpose.
/// what() reads "<kind>: <place>: <what>; expected <expected>, got <got>; <hint>", empty parts left out.
class ORRERY_API Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, ErrorDetail detail);

  /// What to branch on, and the parts of the message.
  ErrorKind kind() const noexcept { return kind_; }
  const ErrorDetail& detail() const noexcept { return detail_; }

 private:
  ErrorKind kind_;
  ErrorDetail detail_;
};

}  // namespace orrery
