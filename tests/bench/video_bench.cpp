#include <ATen/ops/randint.h>
#include <benchmark/benchmark.h>

#include "orrery/video.h"

namespace orrery {
namespace {

// Pictures to network input and back, at the frame counts and sizes of the Cosmos and Wan tokenizers.
Video random_video(const benchmark::State& state) {
  return {at::randint(0, 256, {state.range(0), state.range(1), state.range(2), 3}, at::kByte), 24};
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->Args({9, 256, 256})->Args({33, 480, 832})->Unit(benchmark::kMillisecond);
}

void to_input(benchmark::State& state) {
  const Video video = random_video(state);
  for (auto _ : state) benchmark::DoNotOptimize(orrery::to_input(video));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(to_input)->Apply(sizes);

void to_video(benchmark::State& state) {
  const at::Tensor sample = orrery::to_input(random_video(state));
  for (auto _ : state) benchmark::DoNotOptimize(orrery::to_video(sample, 24));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(to_video)->Apply(sizes);

}  // namespace
}  // namespace orrery
