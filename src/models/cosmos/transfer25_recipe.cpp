// Cosmos Transfer2.5: a control video steers every block. Source: diffusers 0.42.1
// pipelines/cosmos/pipeline_cosmos2_5_transfer.py.
#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "models/cosmos/cosmos_controlnet_model.h"
#include "models/cosmos/cosmos_recipe.h"
#include "models/cosmos/cosmos_recipes.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr double kTrainTimesteps = 1000;

struct Networks {
  std::shared_ptr<const CosmosTransformer3DModel> transformer;
  std::shared_ptr<const CosmosControlNetModel> controlnet;
};

// Network and control branch with what both prepared for one prompt.
class Controlled {
 public:
  Controlled(Networks networks, const DiffusionInputs& inputs, const at::Tensor& text, const at::Tensor& known_mask)
      : networks_(std::move(networks)) {
    Conditions conditions = inputs.conditions;
    conditions.text = text;
    conditions.known_mask = known_mask;
    const CosmosTransformerConfig& config = networks_.transformer->config();
    // Without a picture beside the prompt the reference shows a black one, whose embedding is taken to be zero.
    if (config.img_context_dim_in > 0)
      conditions.image = at::zeros({inputs.shape[0], config.img_context_num_tokens, config.img_context_dim_in}, at::kFloat);
    context_ = networks_.transformer->prepare(conditions, inputs.shape);
    control_ = networks_.controlnet->prepare(control_inputs(inputs, conditions, known_mask));
    weight_ = inputs.conditions.controls.front().weight;
  }

  void renew(const DiffusionInputs& inputs, const at::Tensor& known_mask) {
    Conditions conditions = inputs.conditions;
    conditions.known_mask = known_mask;
    networks_.transformer->renew(*context_, conditions, inputs.shape);
    networks_.controlnet->renew(control_, control_inputs(inputs, conditions, known_mask));
  }

  at::Tensor operator()(const at::Tensor& input, const at::Tensor& times) {
    auto& residuals = static_cast<CosmosContext&>(*context_).control_residuals;
    residuals = networks_.controlnet->forward(input, times, control_);
    for (at::Tensor& residual : residuals) residual.mul_(weight_);
    const at::Tensor output = networks_.transformer->forward({.video = input}, times, *context_).video;
    residuals.clear();
    return output;
  }

 private:
  static CosmosControlNetModel::Inputs control_inputs(const DiffusionInputs& inputs, const Conditions& conditions,
                                                      const at::Tensor& known_mask) {
    return {.controls = inputs.conditions.controls.front().video,
            .text = conditions.text,
            .image = conditions.image,
            .condition_mask = known_mask};
  }

  Networks networks_;
  std::unique_ptr<Denoiser::Context> context_;
  CosmosControlNetModel::Context control_;
  double weight_ = 1;
};

class Transfer25Run final : public DiffusionRun {
 public:
  Transfer25Run(const Networks& networks, DiffusionInputs inputs, int64_t stride)
      : original_(inputs.original), stride_(stride), scale_(inputs.guidance_scale), form_(inputs.guidance_form) {
    if (!inputs.fps_modulation.value_or(false)) inputs.conditions.fps = 0;
    set_known(inputs);
    const at::Tensor mask = as_channel(indicator_, inputs.shape);
    prompt_.emplace(networks, inputs, inputs.conditions.text, mask);
    if (inputs.guided) negative_.emplace(networks, inputs, inputs.negative_text, mask);
  }

  void next_window(const DiffusionInputs& inputs) override {
    set_known(inputs);
    const at::Tensor mask = as_channel(indicator_, inputs.shape);
    prompt_->renew(inputs, mask);
    if (negative_) negative_->renew(inputs, mask);
  }

  at::Tensor velocity(const at::Tensor& sample, const NoiseLevel& level) override {
    // The straight path from the first noise to a known frame, so that the solver carries known frames along it.
    if (!known_velocity_.defined()) known_velocity_ = (sample - known_) * indicator_;
    const double time = original_ ? level.time / kTrainTimesteps : level.sigma;
    const at::Tensor times =
        at::lerp(at::full_like(indicator_, time), at::full_like(indicator_, kConditionalTime), indicator_).flatten(1);
    const at::Tensor input = at::lerp(sample, known_, indicator_);
    const at::Tensor c = at::lerp((*prompt_)(input, times), known_velocity_, indicator_);
    if (!negative_) return c;
    return guide(c, at::lerp((*negative_)(input, times), known_velocity_, indicator_), scale_, form_);
  }

 private:
  static constexpr double kConditionalTime = 0.1;

  void set_known(const DiffusionInputs& inputs) {
    const int64_t known = latent_count(inputs.history_frames, stride_);
    indicator_ = frame_indicator(inputs.shape, known);
    known_ = known_latents(inputs, known, 1.0);
    known_velocity_ = at::Tensor();
  }

  bool original_;
  int64_t stride_;
  double scale_;
  GuidanceForm form_;
  at::Tensor indicator_, known_, known_velocity_;
  std::optional<Controlled> prompt_, negative_;
};

class Transfer25Recipe final : public CosmosRecipe {
 public:
  explicit Transfer25Recipe(const DiffusionParts& parts) : CosmosRecipe(parts, /*video_class=*/"") {
    networks_.transformer = std::dynamic_pointer_cast<const CosmosTransformer3DModel>(denoiser_);
    if (const auto found = parts.components.find("controlnet"); found != parts.components.end())
      networks_.controlnet = std::dynamic_pointer_cast<const CosmosControlNetModel>(found->second);
    if (!networks_.controlnet || !networks_.transformer)
      throw Error(ErrorKind::kConfig, {.place = parts.index.place(), .what = "the part 'controlnet' is missing"});
  }

  bool takes_controls() const override { return true; }
  int64_t overlap_frames() const override { return 1; }
  at::Tensor embed_prompt(const TextTokenizer& tokenizer, const Component& text_encoder, const std::string& prompt,
                          int64_t& cut) const override {
    return embed_chat(tokenizer, text_encoder, prompt, cut);
  }
  std::unique_ptr<DiffusionRun> begin(const DiffusionInputs& inputs) const override {
    if (inputs.conditions.controls.size() != 1)
      throw Error(ErrorKind::kArgument, {.place = class_name_ + ": controls",
                                         .what = "do not fit the control branch",
                                         .expected = "one control video",
                                         .got = std::to_string(inputs.conditions.controls.size())});
    return std::make_unique<Transfer25Run>(networks_, inputs, codec_.temporal_stride);
  }

 private:
  Networks networks_;
};

}  // namespace

std::unique_ptr<DiffusionRecipe> build_cosmos_transfer25_recipe(const DiffusionParts& parts) {
  return std::make_unique<Transfer25Recipe>(parts);
}

}  // namespace orrery::models
