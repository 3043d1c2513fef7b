#pragma once

#include <c10/core/Stream.h>

#include <cstdint>
#include <map>
#include <mutex>

#include "support/far_device.h"

namespace orrery::testing {

/// The order in which the far device's streams, events and host may count on each other's work. Its operations run at once,
/// whatever the stream; what is kept here is what a device that runs them later would promise: clocks of each stream, which
/// events and waits of the host join (Lamport's happened-before, with a clock for each).
class FarOrder {
 public:
  using Clock = std::map<int64_t, int64_t>;  // of each stream, how many of its operations are certainly over
  /// Who used a piece of memory, and which stream it was allocated on.
  struct Uses {
    int64_t owner = 0;
    Clock last, wrote;
  };

  int64_t current() const { return current_stream(); }
  void make_current(int64_t stream) { current_stream() = stream; }
  int64_t new_stream();

  void touch(Uses& uses, bool writes);
  /// Memory comes from the current stream's pool, and goes back to that; the pool gives out again what came back, without
  /// waiting for who used it.
  Uses allocated();
  void released(const Uses& uses);
  Clock record(int64_t stream);
  void wait(int64_t stream, const Clock& event);
  void host_waits();
  void uploaded(int64_t bytes, bool pinned);
  FarStreams take();

 private:
  static int64_t& current_stream();
  static void join(Clock& clock, const Clock& other);

  std::mutex mutex_;
  std::map<int64_t, Clock> streams_;
  std::map<int64_t, Clock> free_;  // of each stream's pool, who used what came back to it since it last gave some out
  Clock host_;
  int64_t count_ = 0;
  FarStreams counted_;
};

FarOrder& far_order();

/// Whether the device would read this memory of the processor without it.
bool reads_by_itself(const void* address);
/// Makes LibTorch know the device's streams and events, and memory that it reads by itself.
void register_far_streams();

}  // namespace orrery::testing
