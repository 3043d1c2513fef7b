#include "models/wan/causal_wan_stream.h"

#include <ATen/ATen.h>

namespace orrery::models {
namespace {

constexpr int64_t kTrainSteps = 1000;

}  // namespace

CausalWanStream::CausalWanStream(std::shared_ptr<const CausalWanModel> model) : model_(std::move(model)) {
  // The unshifted schedule runs from 1 down in thousandths; step `index` counts from its end.
  const at::Tensor plain = at::linspace(1.0, 0.0, kTrainSteps + 1, at::kFloat);
  const double shift = model_->timestep_shift();
  const at::Tensor sigmas = plain * shift / (1 + (shift - 1) * plain);
  for (const int64_t index : model_->denoising_steps()) sigmas_.push_back(sigmas[kTrainSteps - index].item<float>());
}

at::Tensor CausalWanStream::next(const WanContext& context, const ActionWindows& actions, const at::Tensor& beside,
                                 const Draws& noise, CausalWanMemory& memory,
                                 const std::function<void(const at::Tensor& block)>& finished) const {
  const auto look = [&](const at::Tensor& x, float time, bool keep) {
    const at::Tensor input = beside.defined() ? at::cat({x, beside}, 1) : x;
    return model_->forward(input, at::full({1, x.size(2)}, time, x.options()), context, actions, memory, keep);
  };
  at::Tensor x = noise(0);
  for (size_t i = 0; i < sigmas_.size(); ++i) {
    const at::Tensor velocity = look(x, sigmas_[i] * kTrainSteps, /*keep=*/false);
    const at::Tensor clean = (x.to(at::kDouble) - velocity.to(at::kDouble) * static_cast<double>(sigmas_[i])).to(at::kFloat);
    x = clean;
    if (i + 1 < sigmas_.size()) x = clean * (1 - sigmas_[i + 1]) + noise(static_cast<int64_t>(i) + 1) * sigmas_[i + 1];
  }
  if (finished) finished(x);
  look(x, 0, /*keep=*/true);  // once more, clean, for the keys that later blocks see
  return x;
}

}  // namespace orrery::models
