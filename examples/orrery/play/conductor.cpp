#include "play/conductor.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "orrery/error.h"

namespace program::play {
namespace {

// Of one viewer, that wait to be served: a saved state or a picture may be large.
constexpr size_t kMostWaiting = 256, kMostWaitingBytes = size_t{128} << 20;

std::string complaint(const std::string& what) {
  return nlohmann::json({{"error", what}}).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// What to tell a viewer when the work fails; none when it does not.
std::optional<std::string> complaint_of(const std::function<void()>& work) {
  try {
    work();
    return std::nullopt;
  } catch (const orrery::Error& error) {
    return complaint(error.what());
  } catch (const std::exception& error) {
    return complaint(std::string("device: ") + error.what());
  }
}

}  // namespace

Conductor::Conductor(Setting setting)
    : setting_(std::move(setting)), thread_([this] { run(); }), reader_([this] { read(); }) {}

Conductor::~Conductor() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  news_.notify_all();
  thread_.join();
  reader_.join();
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
      serve(seat, std::move(messages));
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

void Conductor::serve(const std::shared_ptr<Seat>& seat, std::deque<Message> messages) {
  Viewer& viewer = *seat->viewer;
  const auto attempt = [&](auto&& work) {
    if (const auto wrong = complaint_of(work)) viewer.tell(*wrong);
  };
  attempt([&] {
    if (!seat->session) seat->session = std::make_unique<Session>(setting_, std::to_string(seat->number));
  });
  if (!seat->session) return;
  Session& session = *seat->session;
  for (Message& message : messages)
    attempt([&] {
      const nlohmann::json answer = receive(seat, message);
      if (answer["done"] == "save") return viewer.hand_over("S" + session.save());
      if (answer["done"] != "act" && answer["done"] != "peek" && answer["done"] != "upload") viewer.tell(answer.dump());
    });
  attempt([&] {
    if (session.due() <= Clock::now()) session.step();
    if (session.stale()) viewer.show(session.picture());
  });
}

nlohmann::json Conductor::receive(const std::shared_ptr<Seat>& seat, Message& message) {
  Session& session = *seat->session;
  if (message.opening) return session.begin(std::move(*message.opening));
  if (!message.binary) return session.handle(message.bytes);
  if (message.bytes.starts_with("ORRERYST")) return session.load(message.bytes);
  const std::lock_guard lock(mutex_);
  if (std::exchange(seat->reading, true))
    throw orrery::Error(orrery::ErrorKind::kArgument,
                        {.place = "upload", .what = "comes while the one before is being read"});
  uploads_.push_back({seat, session.opening(std::move(message.bytes))});
  news_.notify_all();
  return {{"done", "upload"}};
}

// A picture of many megapixels takes seconds to read: meanwhile every world goes on.
void Conductor::read() {
  std::unique_lock lock(mutex_);
  while (true) {
    news_.wait(lock, [this] { return over_ || !uploads_.empty(); });
    if (over_) return;
    Upload upload = std::move(uploads_.front());
    uploads_.pop_front();
    lock.unlock();
    Message begin;
    const auto wrong = complaint_of([&] { begin.opening = std::make_shared<Opening>(upload.open()); });
    if (wrong) upload.seat->viewer->tell(*wrong);
    lock.lock();
    upload.seat->reading = false;
    if (!wrong) upload.seat->inbox.push_back(std::move(begin));
    news_.notify_all();
  }
}

}  // namespace program::play
