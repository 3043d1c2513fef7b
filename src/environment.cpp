#include "orrery/environment.h"

#include <ATen/ATen.h>

#include <numeric>

#include "guarded.h"
#include "orrery/error.h"
#include "orrery/media.h"

namespace orrery {

Environment::Environment(std::shared_ptr<const World> world, EnvironmentOptions options)
    : world_(std::move(world)), options_(std::move(options)) {
  if (!world_ || options_.count < 1)
    throw Error(
        ErrorKind::kArgument,
        {.place = "environment", .what = "needs a world and at least one of it", .got = std::to_string(options_.count)});
  const auto count = static_cast<size_t>(options_.count);
  states_.resize(count);
  seen_.resize(count);
  steps_.assign(count, 0);
  over_.assign(count, true);
}

at::Tensor Environment::reset(std::optional<uint64_t> seed, const ResetOptions& options) {
  return guarded("reset", [&] {
    const Video& first = options.first.num_frames() > 0 ? options.first : options_.first;
    std::vector<int64_t> which = options.only;
    if (which.empty()) {
      which.resize(states_.size());
      std::iota(which.begin(), which.end(), 0);
    }
    for (const int64_t i : which)
      if (i < 0 || i >= count())
        throw Error(ErrorKind::kArgument, {.place = "reset: only",
                                           .what = "names no world",
                                           .expected = "0 … " + std::to_string(count() - 1),
                                           .got = std::to_string(i)});
    const uint64_t base = seed.value_or(next_seed_);
    next_seed_ = base + static_cast<uint64_t>(count());
    const State begun = world_->begin(first, base, options_.prompt);
    const at::Tensor picture = newest(first);
    for (const int64_t i : which) {
      states_[i] = begun.fork();
      states_[i].seed = base + static_cast<uint64_t>(i);
      seen_[i] = picture;
      steps_[i] = 0;
      over_[i] = false;
    }
    for (size_t i = 0; i < seen_.size(); ++i)
      if (!seen_[i].defined())
        throw Error(
            ErrorKind::kArgument,
            {.place = "reset: only", .what = "leaves a world that never began", .got = "world " + std::to_string(i)});
    return at::stack(seen_);
  });
}

// What an episode begins with, in the world's own size; black where it begins with words.
at::Tensor Environment::newest(const Video& first) const {
  if (first.num_frames() == 0) return at::zeros({world_->height(), world_->width(), 3}, at::kByte);
  const Video last{first.frames.narrow(0, first.num_frames() - 1, 1), 0};
  return resize(last, {.height = world_->height(), .width = world_->width()}).frames[0];
}

Steps Environment::step(const std::vector<std::vector<double>>& actions) {
  return guarded("step", [&] {
    for (size_t i = 0; i < over_.size(); ++i)
      if (over_[i])
        throw Error(ErrorKind::kArgument,
                    {.place = "world " + std::to_string(i), .what = "is over, or never began", .hint = "call reset()"});
    const std::vector<at::Tensor> imagined = world_->step(states_, actions);
    Steps out{.rewards = std::vector<double>(states_.size()),
              .terminated = std::vector<bool>(states_.size()),
              .truncated = std::vector<bool>(states_.size()),
              .info = std::vector<std::map<std::string, double>>(states_.size())};
    for (size_t i = 0; i < states_.size(); ++i) {
      const at::Tensor newest = imagined[i].narrow(0, imagined[i].size(0) - 1, 1);  // [1,3,H,W]
      const at::Tensor after = to_video(newest, 0).frames[0];
      ++steps_[i];
      out.info[i] = {{"frame", static_cast<double>(states_[i].frame)}, {"step", static_cast<double>(steps_[i])}};
      const StepView view{seen_[i], actions[i], after, steps_[i], out.info[i]};
      if (options_.reward) out.rewards[i] = options_.reward(view);
      if (options_.terminated) out.terminated[i] = options_.terminated(view);
      out.truncated[i] = options_.max_steps > 0 && steps_[i] >= options_.max_steps;
      over_[i] = out.terminated[i] || out.truncated[i];
      seen_[i] = after;
    }
    out.observations = at::stack(seen_);
    return out;
  });
}

}  // namespace orrery
