// The products of the Wan 1.3B and Predict2-2B blocks at 768 tokens: LibTorch's float32 against ours from bfloat16 and int8
// weights. The rate counts the direct method's operations, whatever the algorithm.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <c10/core/InferenceMode.h>

#include "ops/matmul.h"

namespace orrery {
namespace {

enum Form { kLibTorch, kFromBFloat16, kFromInt8 };

void product(benchmark::State& state, Form form) {
  const c10::InferenceMode inference;
  at::set_num_threads(1);
  const int64_t rows = state.range(0), depth = state.range(1), columns = state.range(2);
  const at::Tensor input = at::randn({rows, depth}), bias = at::randn({columns}), scales = at::rand({columns});
  at::Tensor weight = at::randn({columns, depth});
  if (form == kFromBFloat16) weight = weight.to(at::kBFloat16);
  if (form == kFromInt8) weight = weight.clamp_(-4, 4).mul_(31).to(at::kChar);
  for (auto _ : state)
    benchmark::DoNotOptimize(form == kLibTorch ? at::linear(input, weight, bias) : ops::matmul(input, weight, scales, bias));
  state.counters["FLOP/s"] =
      benchmark::Counter(2.0 * static_cast<double>(rows * depth * columns), benchmark::Counter::kIsIterationInvariantRate);
}

void shapes(benchmark::internal::Benchmark* benchmark) {
  for (const auto& shape : std::initializer_list<std::vector<int64_t>>{
           {768, 1536, 1536}, {768, 1536, 8960}, {768, 8960, 1536}, {768, 2048, 8192}, {768, 8192, 2048}, {24, 1536, 1536}})
    benchmark->Args(shape);
  benchmark->Unit(benchmark::kMillisecond);
}

BENCHMARK_CAPTURE(product, libtorch_float32, kLibTorch)->Apply(shapes);
BENCHMARK_CAPTURE(product, bfloat16, kFromBFloat16)->Apply(shapes);
BENCHMARK_CAPTURE(product, int8, kFromInt8)->Apply(shapes);

}  // namespace
}  // namespace orrery
