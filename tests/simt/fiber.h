#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace orrery::simt {

/// A function with a stack of its own, which can stop in the middle and go on later. Used from one thread of the host.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;

  /// From now on, resume() runs `body` from its beginning. It must not throw.
  void start(std::function<void()> body);
  /// Runs until the body calls pause() or ends; true when it has ended.
  bool resume();
  /// Called inside the body: back to who called resume().
  void pause();

 private:
  struct Machine;
  std::unique_ptr<Machine> machine_;
};

}  // namespace orrery::simt
