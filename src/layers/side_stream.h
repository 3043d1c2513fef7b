#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>
#include <c10/core/StreamGuard.h>

#include <optional>
#include <utility>

namespace orrery::layers {

/// A second stream of a device, beside the one that is current: what is uploaded on it overlaps the work. Memory that was
/// allocated on it returns to it, so that whatever used that memory elsewhere must be over on it before: Use sees to that.
/// May be used by several threads; what it is given goes in one order.
class SideStream {
 public:
  /// Whether LibTorch has streams for such a device.
  static bool exists_on(c10::Device device);
  explicit SideStream(c10::Device device);

  /// What it is given from here on begins when what the current stream was given so far is done.
  void follow() const;
  /// Calls `work` with the side stream current, and answers what it does.
  template <typename Work>
  auto run(Work&& work) const {
    const c10::StreamGuard guard(stream_);
    return std::forward<Work>(work)();
  }

  /// The current stream's use of what lies on the side stream: it begins when all that the side stream was given so far is
  /// done; and what the side stream is given after it begins when the use is over. The host waits for nothing.
  class Use {
   public:
    explicit Use(const SideStream& side);
    ~Use();
    Use(const Use&) = delete;

   private:
    c10::Stream side_, current_;
  };

 private:
  c10::Stream stream_;
};

/// Work that need not be over before the current stream goes on: on a device with streams it runs on a second one, elsewhere
/// at once.
class Beside {
 public:
  explicit Beside(c10::Device device) {
    if (SideStream::exists_on(device)) side_.emplace(device);
  }
  /// Calls `work`, which begins when what the current stream was given so far is done. What it reads must live until join().
  template <typename Work>
  auto run(Work&& work) const {
    if (!side_) return std::forward<Work>(work)();
    side_->follow();
    return side_->run(std::forward<Work>(work));
  }
  /// What the current stream is given from here on begins when that work is done too.
  void join() const {
    if (side_) SideStream::Use{*side_};
  }

 private:
  std::optional<SideStream> side_;
};

}  // namespace orrery::layers
