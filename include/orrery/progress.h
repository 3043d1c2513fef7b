#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "orrery/export.h"

namespace orrery {

/// One report of long work: `done` of `total` units of `stage` ("encode", "step", "download", …).
/// `total` is 0 where it is not known. `seconds_left` is an estimate, negative while there is none.
struct Progress {
  std::string_view stage;
  int64_t done = 0;
  int64_t total = 0;
  double seconds_left = -1;
};

/// Called from the working thread; must not throw.
using ProgressCallback = std::function<void(const Progress&)>;

/// A flag that one side raises and long work looks at between its units. Copies share the flag.
class ORRERY_API CancellationToken {
 public:
  CancellationToken() : raised_(std::make_shared<std::atomic<bool>>(false)) {}

  /// Asks the work to stop; safe to call from any thread. (From a signal handler: set an own flag and call this outside.)
  void cancel() noexcept { raised_->store(true, std::memory_order_relaxed); }
  bool cancelled() const noexcept { return raised_->load(std::memory_order_relaxed); }
  /// Throws Error(kCancelled) naming `stage` when the flag is up.
  void check(std::string_view stage) const;

 private:
  std::shared_ptr<std::atomic<bool>> raised_;
};

/// What every long operation takes: how to tell, and how to be told to stop.
struct WorkOptions {
  ProgressCallback on_progress;  ///< may be empty
  CancellationToken cancel;
};

}  // namespace orrery
