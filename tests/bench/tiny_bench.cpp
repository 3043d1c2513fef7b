// The tiny tokenizers at their published widths with random weights, one frame (one latent) of 128x224 a time.
// tests/bench/tiny_reference.py times the same networks in PyTorch.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <c10/core/InferenceMode.h>

#include "models/tiny/taehv.h"
#include "models/tiny/taesd.h"

namespace orrery::models {
namespace {

/// Any tensor that is asked for, random.
class RandomSource final : public TensorSource {
 public:
  void add(const std::string& name, std::vector<int64_t> shape) { infos_[name] = {std::move(shape), at::kFloat, 0}; }
  std::string place() const override { return "random"; }
  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  at::Tensor read(const std::string& name) const override { return at::randn(infos_.at(name).shape) * 0.05; }

 private:
  std::map<std::string, TensorInfo> infos_;
};

void add_block(RandomSource& source, const std::string& name, int64_t in, int64_t width, bool pooled) {
  for (const char* conv : {".conv.0", ".conv.2", ".conv.4"}) {
    source.add(name + conv + ".weight", {width, conv == std::string(".conv.0") ? in : width, 3, 3});
    source.add(name + conv + ".bias", {width});
  }
  if (!pooled) return;
  source.add(name + ".pool.0.weight", {4 * width, width, 1, 1});
  source.add(name + ".pool.1.weight", {4 * width});
  source.add(name + ".pool.1.bias", {4 * width});
  source.add(name + ".pool.3.weight", {width, 4 * width, 1, 1});
}

std::unique_ptr<Autoencoder> taew2_1() {
  auto source = std::make_shared<RandomSource>();
  const auto conv = [&](const std::string& name, int64_t out, int64_t in, bool bias) {
    source->add(name + ".weight", {out, in, 3, 3});
    if (bias) source->add(name + ".bias", {out});
  };
  conv("encoder.0", 64, 3, true);
  for (int64_t stage = 0, layer = 2; stage < 3; ++stage) {
    source->add("encoder." + std::to_string(layer++) + ".conv.weight", {64, stage < 2 ? 128 : 64, 1, 1});
    conv("encoder." + std::to_string(layer++), 64, 64, false);
    for (int64_t block = 0; block < 3; ++block) add_block(*source, "encoder." + std::to_string(layer++), 128, 64, false);
  }
  conv("encoder.17", 16, 64, true);
  conv("decoder.1", 256, 16, true);
  const std::vector<int64_t> widths = {256, 128, 64, 64};
  for (int64_t stage = 0, layer = 3; stage < 3; ++stage) {
    const int64_t width = widths[stage];
    for (int64_t block = 0; block < 3; ++block)
      add_block(*source, "decoder." + std::to_string(layer++), 2 * width, width, false);
    source->add("decoder." + std::to_string(++layer) + ".conv.weight", {stage > 0 ? 2 * width : width, width, 1, 1});
    conv("decoder." + std::to_string(++layer), widths[stage + 1], width, false);
    ++layer;
  }
  conv("decoder.22", 3, 64, true);
  const Weights weights(source);
  return std::make_unique<TAEHV>(*describe_taehv(weights), weights);
}

std::unique_ptr<Autoencoder> taef2() {
  const auto weights = Weights::open("examples/models/taef2");
  auto component = build_taesd(*describe_taesd(weights), weights);
  return std::unique_ptr<Autoencoder>(dynamic_cast<Autoencoder*>(component.release()));
}

void encode(benchmark::State& state, std::unique_ptr<Autoencoder> (*make)()) {
  const c10::InferenceMode inference;
  const auto model = make();
  const auto sample = at::rand({1, 3, 4, 128, 224}) * 2 - 1;
  for (auto _ : state) benchmark::DoNotOptimize(model->encode(sample).latent);
}

void decode(benchmark::State& state, std::unique_ptr<Autoencoder> (*make)(), int64_t latents) {
  const c10::InferenceMode inference;
  const auto model = make();
  const auto latent = at::randn({1, model->spec().latent_channels, latents, 16, 28});
  for (auto _ : state) benchmark::DoNotOptimize(model->decode(latent));
}

BENCHMARK_CAPTURE(encode, taef2, taef2)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(decode, taef2, taef2, 4)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, taew2_1, taew2_1)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(decode, taew2_1, taew2_1, 4)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace orrery::models
