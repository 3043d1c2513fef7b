#include "play/conductor.h"

#include <algorithm>
#include <vector>

#include "orrery/error.h"

namespace program::play {
namespace {

// Of one viewer, that wait to be served: a saved state or a picture may be large.
constexpr size_t kMostWaiting = 256, kMostWaitingBytes = size_t{128} << 20;

std::string complaint(const std::string& what) {
  return nlohmann::json({{"error", what}}).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

Conductor::Conductor(Setting setting) : setting_(std::move(setting)), thread_([this] { run(); }) {}

Conductor::~Conductor() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  news_.notify_all();
  thread_.join();
}

int64_t Conductor::enter(std::shared_ptr<Viewer> viewer) {
  const std::lock_guard lock(mutex_);
  auto seat = std::make_shared<Seat>();
  seat->number = ++last_number_;
  seat->viewer = std::move(viewer);
  seats_[last_number_] = std::move(seat);
  news_.notify_all();
  return last_number_;
}

void Conductor::leave(int64_t number) {
  const std::lock_guard lock(mutex_);
  seats_.erase(number);
}

bool Conductor::deliver(int64_t number, std::string message, bool binary) {
  const std::lock_guard lock(mutex_);
  const auto seat = seats_.find(number);
  if (seat == seats_.end()) return true;
  Seat& to = *seat->second;
  if (to.inbox.size() >= kMostWaiting || to.waiting_bytes + message.size() > kMostWaitingBytes) return false;
  to.waiting_bytes += message.size();
  to.inbox.push_back({std::move(message), binary});
  news_.notify_all();
  return true;
}

void Conductor::run() {
  std::unique_lock lock(mutex_);
  while (!over_) {
    std::map<int64_t, std::shared_ptr<Seat>> present = seats_;
    auto next = Clock::time_point::max();
    for (auto& [number, seat] : present) {
      std::deque<Message> messages = std::move(seat->inbox);
      seat->inbox.clear();
      seat->waiting_bytes = 0;
      lock.unlock();
      serve(*seat, std::move(messages));
      if (seat->session) next = std::min(next, seat->session->due());
      lock.lock();
    }
    const bool waiting = std::any_of(seats_.begin(), seats_.end(),
                                     [](const auto& each) { return !each.second->inbox.empty() || !each.second->session; });
    present.clear();  // worlds of viewers who left end here
    if (over_ || waiting) continue;
    if (next == Clock::time_point::max())
      news_.wait(lock);
    else
      news_.wait_until(lock, next);
  }
}

void Conductor::serve(Seat& seat, std::deque<Message> messages) {
  const auto attempt = [&](auto&& work) {
    try {
      work();
    } catch (const orrery::Error& error) {
      seat.viewer->tell(complaint(error.what()));
    } catch (const std::exception& error) {
      seat.viewer->tell(complaint(std::string("device: ") + error.what()));
    }
  };
  attempt([&] {
    if (!seat.session) seat.session = std::make_unique<Session>(setting_, std::to_string(seat.number));
  });
  if (!seat.session) return;
  for (Message& message : messages)
    attempt([&] {
      if (message.binary) return seat.viewer->tell(seat.session->receive(message.bytes).dump());
      const nlohmann::json answer = seat.session->handle(message.bytes);
      if (answer["done"] == "save") return seat.viewer->hand_over("S" + seat.session->save());
      if (answer["done"] != "act" && answer["done"] != "peek") seat.viewer->tell(answer.dump());
    });
  attempt([&] {
    if (seat.session->due() <= Clock::now()) seat.session->step();
    if (seat.session->stale()) seat.viewer->show(seat.session->picture());
  });
}

}  // namespace program::play
