#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "orrery/progress.h"

namespace orrery::pipeline {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Tells progress with an estimate and looks at the cancellation token, for work of `total` equal units.
class ProgressMeter {
 public:
  /// `begun` units were finished before.
  ProgressMeter(const WorkOptions& work, std::string_view stage, int64_t total, int64_t begun = 0)
      : work_(work), stage_(stage), total_(total), begun_(begun), start_(std::chrono::steady_clock::now()) {
    tell(begun);
  }
  /// There are `total` units, as is known now.
  void expect(int64_t total) { total_ = total; }
  /// `done` units are finished. Throws Error(kCancelled).
  void tell(int64_t done) {
    work_.cancel.check(stage_);
    if (!work_.on_progress) return;
    const double left =
        done > begun_ ? seconds() / static_cast<double>(done - begun_) * static_cast<double>(total_ - done) : -1;
    work_.on_progress({stage_, done, total_, left});
  }
  double seconds() const { return seconds_since(start_); }

 private:
  const WorkOptions& work_;
  std::string_view stage_;
  int64_t total_, begun_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace orrery::pipeline
