#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "orrery/load.h"

namespace orrery::pipeline {

/// The rungs on which a model's weights can be held: all of them resident, or of some networks one block at a time.
class Ladder {
 public:
  /// `max_memory` in bytes, 0 for any: then all parts stay resident. Otherwise the largest networks and text encoders stream
  /// their blocks until the weights that stay take no more than half of it; the other half is for the work. Throws
  /// Error(kArgument) where a device of so many bytes cannot hold even the lowest rung, Error(kUnsupported) where blocks
  /// would have to be uploaded in another form than they are stored in.
  Ladder(std::vector<ComponentDescription> parts, int64_t max_memory, const LoadOptions& options);

  /// As they are to be loaded: `_stream_from` in the config of those that stream.
  const std::vector<ComponentDescription>& parts() const { return parts_; }
  /// What can be done where the device is out of memory before (`loading`) or while the network runs.
  std::string next_rung(bool loading) const;

 private:
  std::vector<ComponentDescription> parts_;
  bool streams_ = false;
};

/// To be called in a catch block: throws what was caught, "out of memory" as an Error(kDevice) with this hint.
[[noreturn]] void rethrow_with_rung(const std::string& place, const std::string& rung);

}  // namespace orrery::pipeline
