#include "ops/beside.h"

#include <ATen/Parallel.h>

#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

namespace orrery::ops {
namespace {

class Companion {
 public:
  Companion() : thread_([this](const std::stop_token& stop) { serve(stop); }) {}

  // False where it works for somebody else.
  bool offer(const std::function<void()>& work) {
    const std::lock_guard lock(mutex_);
    if (work_ != nullptr) return false;
    work_ = &work;
    state_ = State::kOffered;
    changed_.notify_all();
    return true;
  }
  // Nothing where the thread has not begun: the work is the caller's again. Else what it threw, if it did.
  std::optional<std::exception_ptr> take_back() {
    std::unique_lock lock(mutex_);
    if (state_ == State::kOffered) {
      work_ = nullptr;
      return std::nullopt;
    }
    changed_.wait(lock, [&] { return state_ == State::kDone; });
    work_ = nullptr;
    return std::exchange(thrown_, nullptr);
  }

 private:
  enum class State { kOffered, kTaken, kDone };

  void serve(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (changed_.wait(lock, stop, [&] { return work_ != nullptr && state_ == State::kOffered; })) {
      state_ = State::kTaken;
      lock.unlock();
      try {
        (*work_)();
      } catch (...) {
        thrown_ = std::current_exception();
      }
      lock.lock();
      state_ = State::kDone;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  const std::function<void()>* work_ = nullptr;
  State state_ = State::kDone;
  std::exception_ptr thrown_;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace

void run_beside(const std::function<void()>& here, const std::function<void()>& beside) {
  const auto in_turn = [&] {
    here();
    beside();
  };
  if (at::get_num_threads() < 2 || at::in_parallel_region()) return in_turn();
  static Companion companion;
  if (!companion.offer(beside)) return in_turn();
  std::exception_ptr thrown;
  try {
    here();
  } catch (...) {
    thrown = std::current_exception();
  }
  const std::optional<std::exception_ptr> done = companion.take_back();  // before `beside` goes out of scope
  if (thrown) std::rethrow_exception(thrown);
  if (!done) return beside();
  if (*done) std::rethrow_exception(*done);
}

}  // namespace orrery::ops
