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

class Predict25Run final : public DiffusionRun {
 public:
  // `conditional_time` is what known frames are shown with; without it, with everybody's.
  Predict25Run(std::shared_ptr<const Denoiser> denoiser, DiffusionInputs inputs, int64_t stride,
               std::optional<double> conditional_time)
      : stride_(stride), conditional_time_(conditional_time), path_(inputs, stride, conditional_time) {
    if (!inputs.fps_modulation.value_or(false)) inputs.conditions.fps = 0;  // trained without
    guided_.emplace(std::move(denoiser), inputs, path_.mask());
  }

  void next_window(const DiffusionInputs& inputs) override {
    path_ = KnownPath(inputs, stride_, conditional_time_);
    guided_->renew(inputs, path_.mask());
  }

  at::Tensor velocity(const at::Tensor& sample, const NoiseLevel& level) override {
    return (*guided_)(path_.shown(sample), path_.times(level),
                      [&](const at::Tensor& output) { return path_.velocity(output); });
  }

 private:
  int64_t stride_;
  std::optional<double> conditional_time_;
  KnownPath path_;
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
    // Below zero: as noisy as all. So are the base models and the action-conditioned release; the post-trained are not.
    const double time = inputs.scheduler.get<double>("conditional_frame_timestep", kConditionalTime);
    return std::make_unique<Predict25Run>(denoiser_, inputs, codec_.temporal_stride,
                                          actions_ || time < 0 ? std::nullopt : std::optional(time / kTrainTimesteps));
  }

 private:
  static constexpr double kConditionalTime = 0.1, kTrainTimesteps = 1000;
};

}  // namespace

std::unique_ptr<DiffusionRecipe> build_cosmos_predict25_recipe(const DiffusionParts& parts) {
  return std::make_unique<Predict25Recipe>(parts);
}

}  // namespace orrery::models
