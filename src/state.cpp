#include "orrery/state.h"

#include <ATen/ATen.h>

#include <unordered_set>

#include "byte_stream.h"
#include "guarded.h"
#include "model_identity.h"
#include "orrery/error.h"
#include "state_format.h"

namespace orrery {
namespace {

// Adds up the memory behind tensors, each piece once.
class Memory {
 public:
  void add(const at::Tensor& tensor) {
    if (!tensor.defined() || !seen_.insert(tensor.storage().unsafeGetStorageImpl()).second) return;
    bytes_ += static_cast<int64_t>(tensor.storage().nbytes());
  }
  int64_t bytes() const { return bytes_; }

 private:
  std::unordered_set<const void*> seen_;
  int64_t bytes_ = 0;
};

}  // namespace

State State::fork() const {
  return State(*this);
}

std::vector<State> State::fork(int64_t count) const {
  if (count < 0)
    throw Error(
        ErrorKind::kArgument,
        {.place = "fork", .what = "cannot make so many worlds", .expected = "0 or more", .got = std::to_string(count)});
  std::vector<State> forks;
  forks.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) forks.push_back(fork());
  return forks;
}

void State::go_to(Moment moment) {
  caches = std::move(moment.caches);
  last = std::move(moment.last);
  frame = moment.frame;
  context = std::move(moment.context);
}

void State::remember(Moment moment) {
  if (history_limit <= 0) return history_.clear();
  history_.push_back(std::move(moment));
  while (static_cast<int64_t>(history_.size()) > history_limit) history_.pop_front();
}

void State::rewind(int64_t steps) {
  if (steps < 0 || steps > rewindable())
    throw Error(ErrorKind::kArgument, {.place = "rewind",
                                       .what = "goes beyond what this world remembers",
                                       .expected = "0 … " + std::to_string(rewindable()) + " steps (it keeps the last " +
                                                   std::to_string(history_limit) + ")",
                                       .got = std::to_string(steps)});
  if (steps == 0) return;
  history_.resize(history_.size() - static_cast<size_t>(steps - 1));
  go_to(std::move(history_.back()));
  history_.pop_back();
}

void State::close() {
  *this = State();
  closed_ = true;
}

int64_t State::bytes() const {
  return bytes_of({});
}
int64_t State::bytes_with_history() const {
  return bytes_of(history_);
}

int64_t State::bytes_of(const std::deque<Moment>& past) const {
  Memory memory;
  const auto add = [&](const Moment& moment) {
    for (const at::Tensor& cache : moment.caches) memory.add(cache);
    for (const auto& [name, tensor] : moment.context) memory.add(tensor);
    memory.add(moment.last);
  };
  add(now());
  for (const Moment& moment : past) add(moment);
  return memory.bytes();
}

std::string State::save() const {
  if (closed_ || !model_)
    throw Error(ErrorKind::kArgument,
                {.place = "state", .what = closed_ ? "is closed" : "was never begun", .hint = "call World::begin() first"});
  return guarded("save", [&] {
    ByteWriter out(kStateKind, kStateVersion);
    out.number(model_->hash());
    out.number(frame);
    out.number(seed);
    out.number(static_cast<uint32_t>(caches.size()));
    for (const at::Tensor& cache : caches) out.tensor(cache);
    out.tensor(last);
    out.tensors(context);
    return std::move(out).sealed();
  });
}

}  // namespace orrery
