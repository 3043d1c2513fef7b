#pragma once

#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <c10/core/InferenceMode.h>

#include <functional>
#include <string>

namespace orrery::bench {

/// An op and LibTorch's plain sequence for it, over the same tensors.
struct Beside {
  std::function<at::Tensor()> ours, libtorch;
};

/// Registers NAME/ours and NAME/libtorch; `make` is called when one of them is run. Neither is timed where they differ by
/// more than `within` in relative L2; below zero: they draw, and cannot be compared.
inline bool beside(const std::string& name, Beside (*make)(), double within = 1e-4) {
  const auto add = [&](const std::string& side, std::function<at::Tensor()> Beside::*work) {
    const auto run = [make, work, within](benchmark::State& state) {
      const c10::InferenceMode inference;
      const Beside both = make();
      const auto differ = [&](const at::Tensor& a, const at::Tensor& b) {
        return a.sizes() != b.sizes() || ((a - b).norm() / b.norm()).item<double>() > within;
      };
      if (within >= 0 && differ(both.ours().to(at::kDouble), both.libtorch().to(at::kDouble)))
        return state.SkipWithError("the two sides differ");
      const auto call = both.*work;
      for (auto _ : state) benchmark::DoNotOptimize(call());
    };
    benchmark::RegisterBenchmark((name + "/" + side).c_str(), run)->Unit(benchmark::kMillisecond)->UseRealTime();
  };
  add("ours", &Beside::ours);
  add("libtorch", &Beside::libtorch);
  return true;
}

}  // namespace orrery::bench
