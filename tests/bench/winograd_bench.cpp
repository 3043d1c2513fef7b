// 3x3x3 convolutions at the shapes of a video decoder, two new frames after two remembered ones: by Winograd's minimal
// filtering and as LibTorch (oneDNN) does them. Arguments: channels, side. Items are the direct method's floating-point
// operations.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <c10/core/InferenceMode.h>

#include "ops/winograd.h"

namespace orrery::ops {
namespace {

struct Clip {
  explicit Clip(const benchmark::State& state)
      : channels(state.range(0)), side(state.range(1)), frames(at::randn({1, 4, side, side, channels})) {}

  void count(benchmark::State& state) const {
    state.SetItemsProcessed(state.iterations() * 2 * 2 * 27 * side * side * channels * channels);
  }

  int64_t channels, side;
  at::Tensor frames;
  at::Tensor weight = at::randn({channels, channels, 3, 3, 3}) * 0.01, bias = at::randn({channels});
};

void winograd(benchmark::State& state) {
  const c10::InferenceMode inference;
  const Clip clip(state);
  const std::vector<at::Tensor> history{clip.frames.narrow(1, 0, 1), clip.frames.narrow(1, 1, 1)};
  for (auto _ : state) {
    benchmark::DoNotOptimize(winograd_3x3(history, clip.frames.narrow(1, 2, 2), {.weight = clip.weight, .bias = clip.bias}));
  }
  clip.count(state);
}

void direct(benchmark::State& state) {
  const c10::InferenceMode inference;
  const Clip clip(state);
  const at::Tensor x = clip.frames.permute({0, 4, 1, 2, 3});
  for (auto _ : state)
    benchmark::DoNotOptimize(at::mkldnn_convolution(x, clip.weight, clip.bias, {0, 1, 1}, {1, 1, 1}, {1, 1, 1}, 1));
  clip.count(state);
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->Args({384, 32})
      ->Args({384, 64})
      ->Args({192, 128})
      ->Args({96, 256})
      ->Args({64, 16})
      ->Args({32, 8})
      ->MeasureProcessCPUTime();
}

BENCHMARK(winograd)->Apply(shapes);
BENCHMARK(direct)->Apply(shapes);

}  // namespace
}  // namespace orrery::ops
