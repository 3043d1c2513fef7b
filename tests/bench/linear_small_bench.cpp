// One row (decoding) and a few against the matrices of a network 2048 wide, beside LibTorch's float32 product.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>

#include "ops/linear_small.h"

namespace {

void few_rows(benchmark::State& state, at::ScalarType dtype) {
  const at::Tensor x = at::randn({state.range(0), 2048}), weight = at::randn({8 * 7168, 2048}).mul_(20).to(dtype);
  for (auto _ : state)
    benchmark::DoNotOptimize(dtype == at::kFloat ? at::linear(x, weight) : orrery::ops::linear_small(x, weight));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(weight.nbytes()));
}

BENCHMARK_CAPTURE(few_rows, float32, at::kFloat)->Arg(1)->Arg(4)->Arg(8)->UseRealTime();
BENCHMARK_CAPTURE(few_rows, bfloat16, at::kBFloat16)->Arg(1)->Arg(4)->Arg(8)->UseRealTime();
BENCHMARK_CAPTURE(few_rows, int8, at::kChar)->Arg(1)->Arg(4)->Arg(8)->UseRealTime();

}  // namespace
