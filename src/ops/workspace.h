#pragma once

#include <cstddef>
#include <cstdint>

namespace orrery::ops {

/// Memory for what a call needs and nobody after it: of this thread, kept for the next call, which so finds it in the cache
/// still, however the heap looks by then. All of it is free again when the object goes; those made later go first.
class Workspace {
 public:
  Workspace();
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  /// Whatever it last held; aligned to 64 bytes.
  float* floats(int64_t count);

 private:
  size_t piece_, used_;  ///< where the thread's memory was taken up to before
};

}  // namespace orrery::ops
