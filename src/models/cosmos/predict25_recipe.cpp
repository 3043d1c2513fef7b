// Cosmos Predict2.5. Source: diffusers 0.42.1 pipelines/cosmos/pipeline_cosmos2_5_predict.py;
// nvidia-cosmos/cosmos-transfer2.5:cosmos_transfer2/_src/predict2/models/video2world_model_rectified_flow.py and
// predict2/action/models/action_conditioned_video2world_rectified_flow_model.py.
#include <ATen/ATen.h>

#include <optional>

#include "models/cosmos/cosmos_recipe.h"
#include "models/cosmos/cosmos_recipes.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr double kTrainTimesteps = 1000;

class Predict25Run final : public DiffusionRun {
 public:
  // `conditional_time` is what known frames are shown with; without it, with everybody's.
  Predict25Run(std::shared_ptr<const Denoiser> denoiser, DiffusionInputs inputs, int64_t stride,
               std::optional<double> conditional_time)
      : original_(inputs.original), stride_(stride), conditional_time_(conditional_time) {
    if (!inputs.fps_modulation.value_or(false)) inputs.conditions.fps = 0;  // trained without
    set_known(inputs);
    guided_.emplace(std::move(denoiser), inputs, as_channel(indicator_, inputs.shape));
  }

  void next_window(const DiffusionInputs& inputs) override {
    set_known(inputs);
    guided_->renew(inputs, as_channel(indicator_, inputs.shape));
  }

  at::Tensor velocity(const at::Tensor& sample, const NoiseLevel& level) override {
    // The straight path from the first noise to a known frame, so that the solver carries known frames along it.
    if (!known_velocity_.defined()) known_velocity_ = (sample - known_) * indicator_;
    // The original feeds its schedule's whole-numbered times, diffusers the exact ones.
    const double time = original_ ? level.time / kTrainTimesteps : level.sigma;
    const at::Tensor times =
        at::lerp(at::full_like(indicator_, time), at::full_like(indicator_, conditional_time_.value_or(time)), indicator_)
            .flatten(1);
    return (*guided_)(at::lerp(sample, known_, indicator_), times,
                      [&](const at::Tensor& output) { return at::lerp(output, known_velocity_, indicator_); });
  }

 private:
  void set_known(const DiffusionInputs& inputs) {
    const int64_t known = latent_count(inputs.history_frames, stride_);
    indicator_ = frame_indicator(inputs.shape, known);
    known_ = known_latents(inputs, known, 1.0);
    known_velocity_ = at::Tensor();
  }

  bool original_;
  int64_t stride_;
  std::optional<double> conditional_time_;
  at::Tensor indicator_, known_, known_velocity_;
  std::optional<Guided> guided_;
};

class Predict25Recipe final : public CosmosRecipe {
 public:
  explicit Predict25Recipe(const DiffusionParts& parts) : CosmosRecipe(parts, /*video_class=*/"") {}

  int64_t usable_frames(int64_t seen) const override {
    if (actions_) return 1;
    const int64_t two_latents = 1 + codec_.temporal_stride;
    return seen >= two_latents ? two_latents : std::min<int64_t>(seen, 1);
  }
  at::Tensor embed_prompt(const TextTokenizer& tokenizer, const Component& text_encoder, const std::string& prompt,
                          int64_t& cut) const override {
    return embed_chat(tokenizer, text_encoder, prompt, cut);
  }
  void check(int64_t num_frames, int64_t height, int64_t width, int64_t known_frames) const override {
    CosmosRecipe::check(num_frames, height, width, known_frames);
    if (known_frames != 0 && known_frames != 1 && known_frames != 1 + codec_.temporal_stride)
      throw Error(ErrorKind::kArgument, {.place = "condition frames",
                                         .what = "do not fit the network",
                                         .expected = "1 or " + std::to_string(1 + codec_.temporal_stride),
                                         .got = std::to_string(known_frames),
                                         .hint = "use --condition-frames"});
  }
  std::unique_ptr<DiffusionRun> begin(const DiffusionInputs& inputs) const override {
    return std::make_unique<Predict25Run>(denoiser_, inputs, codec_.temporal_stride,
                                          actions_ ? std::nullopt : std::optional(kConditionalTime));
  }

 private:
  static constexpr double kConditionalTime = 0.0001;  // not of the action-conditioned release
};

}  // namespace

std::unique_ptr<DiffusionRecipe> build_cosmos_predict25_recipe(const DiffusionParts& parts) {
  return std::make_unique<Predict25Recipe>(parts);
}

}  // namespace orrery::models
