// Cosmos Predict2. Source: diffusers 0.42.1 pipelines/cosmos/pipeline_cosmos2_{text2image,video2world}.py;
// nvidia-cosmos/cosmos-predict2:cosmos_predict2/pipelines/{text2image,video2world,video2world_action}.py.
#include <ATen/ATen.h>

#include <optional>

#include "models/cosmos/cosmos_recipe.h"
#include "models/cosmos/cosmos_recipes.h"
#include "models/cosmos/cosmos_transformer_3d_model.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

class Predict2Run final : public DiffusionRun {
 public:
  Predict2Run(std::shared_ptr<const Denoiser> denoiser, DiffusionInputs inputs, bool takes_video, int64_t stride,
              double sigma_data)
      : takes_video_(takes_video), stride_(stride), sigma_data_(sigma_data), known_(inputs, stride, sigma_data) {
    // Only diffusers' video pipeline tells the network a frame rate; it was trained without.
    if (!inputs.fps_modulation.value_or(takes_video && !inputs.original)) inputs.conditions.fps = 0;
    guided_.emplace(std::move(denoiser), inputs, mask());
  }

  void next_window(const DiffusionInputs& inputs) override {
    known_ = KnownFrames(inputs, stride_, sigma_data_);
    guided_->renew(inputs, mask());
  }

  at::Tensor velocity(const at::Tensor& sample, const NoiseLevel& level) override {
    const double t = level.sigma / (level.sigma + 1);
    at::Tensor input = sample * (1 - t), times = at::full({sample.size(0), 1}, t, sample.options());
    if (takes_video_) {
      constexpr double kConditioningTime = kSigmaConditioning / (kSigmaConditioning + 1);
      const at::Tensor& known = known_.indicator;
      input = at::lerp(input, known_.latents, known);
      times = at::lerp(at::full_like(known, t), at::full_like(known, kConditioningTime), known).flatten(1);
    }
    const at::Tensor denoised = (*guided_)(input, times, [&](const at::Tensor& output) {
      const at::Tensor x0 = sample * (1 - t) - output * t;
      return takes_video_ ? at::lerp(x0, known_.latents, known_.indicator) : x0;
    });
    return (sample - denoised) / level.sigma;
  }

 private:
  static constexpr double kSigmaConditioning = 0.0001;

  at::Tensor mask() const { return takes_video_ ? known_.mask : at::Tensor(); }

  bool takes_video_;
  int64_t stride_;
  double sigma_data_;
  KnownFrames known_;
  std::optional<Guided> guided_;
};

class Predict2Recipe final : public CosmosRecipe {
 public:
  explicit Predict2Recipe(const DiffusionParts& parts)
      : CosmosRecipe(parts, "Cosmos2VideoToWorldPipeline"),
        sigma_data_(parts.scheduler.get<double>("sigma_data", 1.0)),
        sigma_max_(parts.scheduler.get<double>("sigma_max", 80.0)),
        repeats_last_sigma_(parts.scheduler.get<std::string>("final_sigmas_type", "zero") == "sigma_min") {}

  double noise_scale() const override { return sigma_max_; }
  bool unit_ramp() const override { return true; }
  bool repeats_last_sigma() const override { return repeats_last_sigma_; }
  at::Tensor to_codec(const at::Tensor& sample) const override { return sample / sigma_data_; }
  void check(int64_t num_frames, int64_t height, int64_t width, int64_t known_frames) const override {
    CosmosRecipe::check(num_frames, height, width, known_frames);
    if (!actions_ || num_frames == 1 + actions_->space().rows_per_step) return;
    throw Error(ErrorKind::kArgument, {.place = class_name_ + ": frames",
                                       .what = "are not those that the network takes actions for at once",
                                       .expected = std::to_string(1 + actions_->space().rows_per_step),
                                       .got = std::to_string(num_frames)});
  }
  // Trained on actions without a word: the reference shows zeros where the text would stand.
  at::Tensor no_prompt() const override {
    if (!actions_) return {};
    const auto& network = static_cast<const CosmosTransformer3DModel&>(*denoiser_);
    return at::zeros({1, kTextTokens, network.config().block.text_embed_dim}, at::kFloat);
  }
  std::unique_ptr<DiffusionRun> begin(const DiffusionInputs& inputs) const override {
    return std::make_unique<Predict2Run>(denoiser_, inputs, takes_video_, codec_.temporal_stride, sigma_data_);
  }

 private:
  static constexpr int64_t kTextTokens = 512;

  double sigma_data_, sigma_max_;
  bool repeats_last_sigma_;
};

}  // namespace

Config cosmos_predict2_scheduler(const Config& stored) {
  return stored.with("sigma_max", 80.0)
      .with("sigma_min", 0.002)
      .with("sigma_data", 1.0)
      .with("final_sigmas_type", std::string("sigma_min"));
}

std::unique_ptr<DiffusionRecipe> build_cosmos_predict2_recipe(const DiffusionParts& parts) {
  return std::make_unique<Predict2Recipe>(parts);
}

}  // namespace orrery::models
