// A planner that thinks in forks: to bring PushT's pusher to a target it forks the imagined world, tries many action
// sequences in one batch, keeps the best and tries around them again (the cross-entropy method). examples/plan_with_forks.py
// runs it in the real simulator.
//   build/bin/plan_with_forks examples/worlds/pusht [seed]
// Speaks over stdin and stdout. "observe H W" and H·W·3 bytes: a real frame. "plan X Y" asks for the next actions towards a
// target in the simulator's units (0 … 512); the answer is one line, "X Y X Y …".
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <orrery/error.h>
#include <orrery/world.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <numeric>
#include <random>

namespace {

constexpr int kCandidates = 24, kElites = 6, kRounds = 3;
constexpr int kHorizon = 6;    // steps looked ahead, all with the candidate's action
constexpr int kExecuted = 3;   // steps done before the next plan
constexpr double kSide = 512;  // of the table, in the simulator's units

using Point = std::pair<double, double>;

// Where the pusher is: the centre of what is bluer than it is red or green, in the simulator's units. frame float [1,3,H,W]
// in [-1,1].
Point pusher_in(const at::Tensor& frame) {
  const at::Tensor pixels = frame.contiguous();
  const int64_t height = pixels.size(2), width = pixels.size(3), plane = height * width;
  const float* red = pixels.const_data_ptr<float>();
  double sum = 1e-6, sum_x = sum * kSide / 2, sum_y = sum_x;
  for (int64_t i = 0; i < plane; ++i) {
    const double blueness = red[2 * plane + i] - 0.5 * (red[i] + red[plane + i]);
    if (blueness < 0.35) continue;  // the block is greyish blue, the pusher is not
    sum += blueness;
    sum_x += blueness * (static_cast<double>(i % width) + 0.5) * kSide / static_cast<double>(width);
    sum_y += blueness * (static_cast<double>(i / width) + 0.5) * kSide / static_cast<double>(height);
  }
  return {sum_x / sum, sum_y / sum};
}

double clamp(double value) {
  return std::clamp(value, 0.0, kSide);
}

Point plan(const orrery::World& world, const orrery::State& now, Point target, std::mt19937_64& random) {
  Point mean = {kSide / 2, kSide / 2};
  double spread = kSide / 3;
  std::normal_distribution<double> normal;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<std::vector<double>> actions;
    for (int i = 0; i < kCandidates; ++i)
      actions.push_back({clamp(mean.first + spread * normal(random)), clamp(mean.second + spread * normal(random))});
    std::vector<orrery::State> forks = now.fork(kCandidates);
    std::vector<double> cost(kCandidates, 0);
    for (int step = 0; step < kHorizon; ++step) {
      const auto frames = world.step(forks, actions);
      for (int i = 0; i < kCandidates; ++i) {
        const Point pusher = pusher_in(frames[i]);
        cost[i] +=
            (step + 1) * std::hypot(pusher.first - target.first, pusher.second - target.second);  // to be there, and soon
      }
    }
    std::vector<int> order(kCandidates);
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + kElites, order.end(), [&](int a, int b) { return cost[a] < cost[b]; });
    mean = {0, 0};
    for (int i = 0; i < kElites; ++i)
      mean = {mean.first + actions[order[i]][0] / kElites, mean.second + actions[order[i]][1] / kElites};
    spread /= 2;
  }
  return mean;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::cerr << "usage: plan_with_forks WORLD [SEED]\n";
    return 2;
  }
  const auto world = orrery::World::from_pretrained(argv[1]);
  std::mt19937_64 random(argc > 2 ? std::stoull(argv[2]) : 0);
  constexpr int64_t kRemembered = 4;
  std::vector<at::Tensor> seen;
  for (std::string word; std::cin >> word;) {
    if (word == "begin") {
      seen.clear();
    } else if (word == "observe") {
      int64_t height = 0, width = 0;
      std::cin >> height >> width;
      std::cin.get();  // the line's end
      at::Tensor frame = at::empty({1, height, width, 3}, at::kByte);
      std::cin.read(static_cast<char*>(frame.mutable_data_ptr()), frame.numel());
      seen.push_back(frame);
      if (seen.size() > kRemembered) seen.erase(seen.begin());
    } else if (word == "plan") {
      Point target;
      std::cin >> target.first >> target.second;
      const orrery::State now = world->begin({seen.empty() ? at::Tensor() : at::cat(seen), 0}, random());
      const Point action = plan(*world, now, target, random);
      for (int i = 0; i < kExecuted; ++i) std::cout << action.first << ' ' << action.second << ' ';
      std::cout << std::endl;
    }
  }
} catch (const orrery::Error& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
