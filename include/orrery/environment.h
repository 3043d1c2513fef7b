#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orrery/export.h"
#include "orrery/state.h"
#include "orrery/video.h"
#include "orrery/world.h"

namespace orrery {

/// What a step brings to agents, as in Gymnasium's vector environments: one entry for each of N worlds.
struct Steps {
  at::Tensor observations;                          ///< uint8 [N,H,W,3], RGB; of a block of frames, the newest
  std::vector<double> rewards;                      ///< 0 without a reward hook
  std::vector<bool> terminated, truncated;          ///< the task is over; the time is over
  std::vector<std::map<std::string, double>> info;  ///< "frame", "step", and what a hook adds
};

/// One world's step, as a hook sees it.
struct StepView {
  const at::Tensor& before;  ///< uint8 [H,W,3]
  const std::vector<double>& action;
  const at::Tensor& after;  ///< uint8 [H,W,3]
  int64_t step;             ///< of the episode, from 1
  std::map<std::string, double>& info;
};

/// A task in a world. Every hook may be empty; they are called on the thread that calls step(), world after world. What one
/// throws leaves step() as an Error; the worlds have taken that step then, so reset them.
struct EnvironmentOptions {
  Video first;                                      ///< what episodes begin with: one picture, or several frames in a row
  WorldPrompt prompt;                               ///< and what the worlds are told then, where they take a prompt
  int64_t count = 1;                                ///< N worlds, stepped as one batch
  int64_t max_steps = 0;                            ///< an episode is truncated after so many; 0: never
  std::function<double(const StepView&)> reward;    ///< of a step
  std::function<bool(const StepView&)> terminated;  ///< whether the task is over
};

/// What one reset changes.
struct ResetOptions {
  Video first = {};                ///< in place of EnvironmentOptions::first
  std::vector<int64_t> only = {};  ///< the worlds to reset; empty: all
};

/// A world, or several, as agents know environments: reset, step, reward, terminated, truncated, info.
/// A world that is over takes no step until it is reset: that is an error, so that no episode goes on unseen (reset() with
/// `only` begins it anew among the others). One thread at a time; several environments may share one World.
class ORRERY_API Environment {
 public:
  /// Throws Error(kArgument) for a count below 1.
  Environment(std::shared_ptr<const World> world, EnvironmentOptions options);

  /// Begins new episodes and returns uint8 [N,H,W,3]. World i draws its noise from seed + i; without a seed each reset draws
  /// another. Throws Error(kArgument) where there is no first picture.
  at::Tensor reset(std::optional<uint64_t> seed = {}, const ResetOptions& options = {});
  /// One row of action for each world. Throws Error(kArgument) naming the row that does not fit, or the world that is over.
  Steps step(const std::vector<std::vector<double>>& actions);
  /// For a single world.
  Steps step(const std::vector<double>& action) { return step(std::vector<std::vector<double>>{action}); }

  const World& world() const { return *world_; }  ///< what it plays in
  /// What a row of action is: names, ranges, named rows.
  const ActionSpace& action_space() const { return world_->action_space(); }
  int64_t count() const { return options_.count; }  ///< N
  /// The worlds themselves, to fork, save or rewind; their observations follow with the next step.
  std::vector<State>& states() { return states_; }

 private:
  at::Tensor newest(const Video& first) const;

  std::shared_ptr<const World> world_;
  EnvironmentOptions options_;
  std::vector<State> states_;
  std::vector<at::Tensor> seen_;  // of each world: uint8 [H,W,3]
  std::vector<int64_t> steps_;
  std::vector<bool> over_;
  uint64_t next_seed_ = 0;
};

}  // namespace orrery
