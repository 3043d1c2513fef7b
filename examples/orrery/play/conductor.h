// The thread that advances every viewer's world at its own pace, and one that reads what pictures they upload.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "play/session.h"

namespace program::play {

/// Where a session's output goes. Called from the conductor's two threads; none of it waits for the network.
class Viewer {
 public:
  virtual ~Viewer() = default;
  /// A picture, dropped when the viewer has not taken the one before the last.
  virtual void show(std::string picture) = 0;
  /// An answer in JSON.
  virtual void tell(std::string text) = 0;
  /// A state to keep.
  virtual void hand_over(std::string bytes) = 0;
};

class Conductor {
 public:
  explicit Conductor(Setting setting);
  ~Conductor();

  /// A new world for this viewer; its number.
  int64_t enter(std::shared_ptr<Viewer> viewer);
  /// The viewer is gone, and its world with it.
  void leave(int64_t number);
  /// What a viewer sent. False when it sends faster, or more, than is served.
  bool deliver(int64_t number, std::string message, bool binary);

 private:
  struct Message {
    std::string bytes;
    bool binary = false;
    std::shared_ptr<Opening> opening;  // in place of bytes: a world to begin, made by the reader
  };
  struct Seat {
    int64_t number = 0;
    std::shared_ptr<Viewer> viewer;
    std::unique_ptr<Session> session;  // touched by the conductor's thread only
    std::deque<Message> inbox;
    size_t waiting_bytes = 0;  // in it
    bool reading = false;      // a picture of this viewer's is with the reader
  };
  struct Upload {
    std::shared_ptr<Seat> seat;
    std::function<Opening()> open;
  };
  void run();
  void serve(const std::shared_ptr<Seat>& seat, std::deque<Message> messages);
  nlohmann::json receive(const std::shared_ptr<Seat>& seat, Message& message);
  void read();

  const Setting setting_;
  std::mutex mutex_;  // of what follows
  std::condition_variable news_;
  std::map<int64_t, std::shared_ptr<Seat>> seats_;
  int64_t last_number_ = 0;
  std::deque<Upload> uploads_;
  bool over_ = false;
  std::thread thread_, reader_;
};

}  // namespace program::play
