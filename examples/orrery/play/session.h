// One viewer's world: what its messages do, and what it is shown. No network and no threads here.
#pragma once

#include <chrono>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "orrery/media.h"
#include "orrery/world.h"

namespace program::play {

using Clock = std::chrono::steady_clock;

/// What every session of a server starts from.
struct Setting {
  const orrery::World* world = nullptr;
  orrery::Video first;           ///< the picture a world begins with; none where it begins with words
  orrery::WorldPrompt prompt;    ///< what it is told then
  double rate_hz = 10;           ///< frames a second
  std::filesystem::path folder;  ///< for uploads and recordings
};

/// A world about to begin: what reading and encoding a picture made, which a large one takes long for.
struct Opening {
  orrery::State state;
  orrery::Video first;
  uint64_t seed = 0;
  at::Tensor shown;  ///< uint8 [1,H,W,3], the world's size; none where it begins with words
};

class Session {
 public:
  Session(const Setting& setting, std::string name);

  /// Does what a JSON message says and returns the answer. Throws orrery::Error, also for a message that makes no sense.
  nlohmann::json handle(const std::string& message);
  /// A saved state.
  nlohmann::json load(const std::string& bytes);
  /// What makes the world that begins with an uploaded picture. It may run on another thread, after this session's end.
  std::function<Opening()> opening(std::string bytes) const;
  nlohmann::json begin(Opening opening);

  /// When the next step is due; never while paused.
  Clock::time_point due() const { return paused_ ? Clock::time_point::max() : due_; }
  /// Whether there is something new to see that came without a step.
  bool stale() const { return stale_; }
  void step();
  /// What is to be seen: 'F', the length of a JSON header, the header, then RGB bytes of one world after the other.
  std::string picture();
  /// The active world's state.
  std::string save() const { return lives_[active_].save(); }

 private:
  struct Shown {
    at::Tensor frames;  // uint8 [T,H,W,3]
    double step_ms = 0;
  };
  void restart(orrery::State state);
  nlohmann::json begun(const std::string& what) const;
  void rewind(int64_t steps);
  void record(const at::Tensor& frames);
  nlohmann::json stop_recording();
  const at::Tensor& visible(size_t world) const;

  const Setting& setting_;
  std::string name_;
  orrery::Video first_;
  orrery::WorldPrompt prompt_;  // what a world that begins anew is told
  uint64_t seed_ = 0;
  std::vector<orrery::State> lives_;       // one, or two side by side
  std::vector<std::vector<double>> rows_;  // the action that each goes on with
  std::vector<std::deque<at::Tensor>>
      shown_;  // of each: its latest frames, as far back as it can be rewound, and the present one
  size_t active_ = 0;
  int64_t peek_ = 0;  // how far back the slider looks
  bool paused_ = false, stale_ = true;
  double block_ = 1;  // frames of a step
  double speed_ = 1, step_ms_ = 0, echo_ = -1, measured_hz_ = 0;
  Clock::time_point due_ = Clock::now(), last_step_{};
  std::unique_ptr<orrery::VideoWriter> recording_;
  std::filesystem::path recorded_;
  int64_t recorded_frames_ = 0, recordings_ = 0;
};

}  // namespace program::play
