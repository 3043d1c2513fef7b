// A world as agents know environments: several worlds stepped together, a reward, episodes that end, and a look ahead by
// forking. The task: bring PushT's pusher to a place on the table, in imagination only.
//   build/bin/environment_loop examples/worlds/pusht [STEPS]
#include <orrery/environment.h>
#include <orrery/error.h>
#include <orrery/media.h>

#include <cmath>
#include <iostream>
#include <random>

namespace {

constexpr int64_t kWorlds = 4;
constexpr int kCandidates = 12, kHeld = 5;                 // actions tried in forks, and the steps that one is held for
constexpr double kSide = 512, kGoalX = 400, kGoalY = 110;  // of the table, in the simulator's units

// How far the pusher is from its goal: it is what is much bluer than it is red or green. frame uint8 [H,W,3].
double distance_in(const at::Tensor& frame) {
  const int64_t height = frame.size(0), width = frame.size(1);
  const uint8_t* rgb = frame.const_data_ptr<uint8_t>();
  double sum = 0, x = 0, y = 0;
  for (int64_t i = 0; i < height * width; ++i) {
    const double blueness = rgb[3 * i + 2] - 0.5 * (rgb[3 * i] + rgb[3 * i + 1]);
    if (blueness < 80) continue;
    sum += blueness;
    x += blueness * (static_cast<double>(i % width) + 0.5) * kSide / static_cast<double>(width);
    y += blueness * (static_cast<double>(i / width) + 0.5) * kSide / static_cast<double>(height);
  }
  return sum > 0 ? std::hypot(x / sum - kGoalX, y / sum - kGoalY) : kSide;  // nowhere to be seen
}

std::vector<double> any_action(const orrery::ActionSpace& space, std::mt19937_64& random) {
  std::vector<double> row;
  for (int64_t i = 0; i < space.width; ++i)
    row.push_back(std::uniform_real_distribution(space.low[i], space.high[i])(random));
  return row;
}

// The best of a few actions, each tried in a fork of its own. The world itself does not move.
std::vector<double> best_action(const orrery::World& world, const orrery::State& now, std::mt19937_64& random) {
  std::vector<std::vector<double>> actions;
  for (int i = 0; i < kCandidates; ++i) actions.push_back(any_action(world.action_space(), random));
  std::vector<orrery::State> forks = now.fork(kCandidates);
  std::vector<at::Tensor> frames;
  for (int step = 0; step < kHeld; ++step) frames = world.step(forks, actions);  // float [1,3,H,W] of each
  size_t best = 0;
  double least = INFINITY;
  for (size_t i = 0; i < frames.size(); ++i) {
    const double distance = distance_in(orrery::to_video(frames[i], 0).frames[0]);
    if (distance < least) least = distance, best = i;
  }
  return actions[best];
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::cerr << "usage: environment_loop WORLD [STEPS]\n";
    return 2;
  }
  const std::string folder = argv[1];
  const std::shared_ptr<const orrery::World> world = orrery::World::from_pretrained(folder);
  orrery::EnvironmentOptions task;
  task.first = orrery::read_image(folder + "/sample/first_frame.png");
  task.count = kWorlds;
  task.max_steps = argc > 2 ? std::stoll(argv[2]) : 30;
  task.reward = [](const orrery::StepView& step) { return -distance_in(step.after) / kSide; };
  task.terminated = [](const orrery::StepView& step) { return distance_in(step.after) < 30; };
  orrery::Environment environment(world, std::move(task));

  for (const bool thinks : {false, true}) {
    std::mt19937_64 random(1);
    environment.reset(/*seed=*/7);
    double reward = 0;
    int64_t reached = 0, steps = 0, over = 0;
    std::vector<std::vector<double>> actions(kWorlds);
    while (over == 0) {
      for (int64_t i = 0; steps % kHeld == 0 && i < kWorlds; ++i)
        actions[i] =
            thinks ? best_action(*world, environment.states()[i], random) : any_action(environment.action_space(), random);
      const orrery::Steps seen = environment.step(actions);
      ++steps;
      for (int64_t i = 0; i < kWorlds; ++i) {
        reward += seen.rewards[i];
        reached += seen.terminated[i] ? 1 : 0;
        over += seen.truncated[i] ? 1 : 0;
        // Whoever is there begins anew, among the others.
        if (seen.terminated[i] && !seen.truncated[i]) environment.reset({}, {.first = {}, .only = {i}});
      }
    }
    std::cout << (thinks ? "with forks:  " : "at random:   ") << "reached " << reached << " times in " << steps
              << " steps of " << kWorlds << " worlds; mean reward " << reward / static_cast<double>(steps * kWorlds) << '\n';
  }
} catch (const orrery::Error& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
