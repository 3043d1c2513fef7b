// Cosmos Predict1. Source: diffusers 0.42.1 pipelines/cosmos/pipeline_cosmos_{text,video}2world.py;
// nvidia-cosmos/cosmos-predict1:cosmos_predict1/diffusion/model/model_{t2w,v2w}.py.
#include <ATen/ATen.h>

#include <cmath>
#include <optional>

#include "models/cosmos/cosmos_recipe.h"
#include "models/cosmos/cosmos_recipes.h"

namespace orrery::models {
namespace {

class Predict1Run final : public DiffusionRun {
 public:
  Predict1Run(std::shared_ptr<const Denoiser> denoiser, DiffusionInputs inputs, bool takes_video, int64_t stride,
              double sigma_data)
      : takes_video_(takes_video), original_(inputs.original), stride_(stride), sigma_data_(sigma_data) {
    if (!inputs.fps_modulation.value_or(true)) inputs.conditions.fps = 0;
    set_known(inputs);
    guided_.emplace(std::move(denoiser), inputs, mask());
  }

  void next_window(const DiffusionInputs& inputs) override {
    begun_ = false;
    set_known(inputs);
    guided_->renew(inputs, mask());
  }

  // The original begins at the square root of 80² + 1, where diffusers begins at 80. It goes on from the known frames as the
  // network was shown them; diffusers leaves the sample there alone.
  at::Tensor compose(at::Tensor sample, const NoiseLevel& level) override {
    if (original_ && !begun_) sample = sample * std::sqrt(1 + 1 / (level.sigma * level.sigma));
    begun_ = true;
    if (!original_ || !takes_video_) return sample;
    const double norm = std::sqrt(level.sigma * level.sigma + sigma_data_ * sigma_data_);
    return at::lerp(sample, noisy_known() * norm, indicator(level.sigma));
  }

  at::Tensor velocity(const at::Tensor& sample, const NoiseLevel& level) override {
    const double sigma = level.sigma, data = sigma_data_;
    const double norm = std::sqrt(sigma * sigma + data * data);
    const double c_skip = data * data / (norm * norm), c_out = sigma * data / norm;
    const at::Tensor known_here = indicator(sigma), scaled = sample * (1 / norm);
    const auto shown = [&] { return original_ ? scaled : at::lerp(scaled, noisy_known(), known_here); };
    const at::Tensor input = shown(), negative_input = guided_->on() ? shown() : input;
    const at::Tensor times = at::full({sample.size(0), 1}, level.time, sample.options());
    const at::Tensor denoised = (*guided_)(input, negative_input, times, [&](const at::Tensor& output) {
      return at::lerp(sample * c_skip + output * c_out, known_.latents, known_here);
    });
    return (sample - denoised) / sigma;
  }

 private:
  static constexpr double kAugmentSigma = 0.001;

  void set_known(const DiffusionInputs& inputs) {
    known_ = KnownFrames(inputs, stride_, sigma_data_);
    noise_ = known_.any ? inputs.condition_noise : nullptr;
  }
  at::Tensor mask() const { return takes_video_ ? known_.mask : at::Tensor(); }
  // Known frames enter at the small noise of their own, not at that of the step; below it they are left to the network.
  at::Tensor indicator(double sigma) const {
    return kAugmentSigma >= sigma ? at::zeros_like(known_.indicator) : known_.indicator;
  }
  // Noise anew for every look; the original draws the same each time.
  at::Tensor noisy_known() {
    const at::Tensor noise = noise_ ? noise_(original_ ? 0 : looks_++) : at::Tensor();
    const double c_in = 1 / std::sqrt(kAugmentSigma * kAugmentSigma + sigma_data_ * sigma_data_);
    return (noise.defined() ? at::add(known_.latents, noise, kAugmentSigma) : known_.latents) * c_in;
  }

  bool takes_video_, original_, begun_ = false;
  int64_t stride_, looks_ = 0;
  double sigma_data_;
  KnownFrames known_;
  std::function<at::Tensor(int64_t)> noise_;
  std::optional<Guided> guided_;
};

class Predict1Recipe final : public CosmosRecipe {
 public:
  explicit Predict1Recipe(const DiffusionParts& parts)
      : CosmosRecipe(parts, "CosmosVideoToWorldPipeline"),
        sigma_data_(parts.scheduler.get<double>("sigma_data", 0.5)),
        sigma_max_(parts.scheduler.get<double>("sigma_max", 80.0)) {}

  double noise_scale() const override { return sigma_max_; }
  at::Tensor to_codec(const at::Tensor& sample) const override { return sample / sigma_data_; }
  std::unique_ptr<DiffusionRun> begin(const DiffusionInputs& inputs) const override {
    return std::make_unique<Predict1Run>(denoiser_, inputs, takes_video_, codec_.temporal_stride, sigma_data_);
  }

 private:
  at::Tensor filler(const at::Tensor& seen) const override { return at::zeros_like(seen.narrow(2, 0, 1)); }
  double sigma_data_, sigma_max_;
};

}  // namespace

std::unique_ptr<DiffusionRecipe> build_cosmos_predict1_recipe(const DiffusionParts& parts) {
  return std::make_unique<Predict1Recipe>(parts);
}

}  // namespace orrery::models
