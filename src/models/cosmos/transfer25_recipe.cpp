// Cosmos Transfer2.5: control videos steer every block. Source: diffusers 0.42.1
// pipelines/cosmos/pipeline_cosmos2_5_transfer.py; how several controls and masks mix, nvidia-cosmos/cosmos-transfer2.5
// transfer2/networks/minimal_v4_lvg_dit_control_vace.py and transfer2/models/vid2vid_model_control_vace_rectified_flow.py at
// 2ff49d0.
#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/cosmos/cosmos_controlnet_model.h"
#include "models/cosmos/cosmos_recipe.h"
#include "models/cosmos/cosmos_recipes.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

struct Networks {
  std::shared_ptr<const CosmosTransformer3DModel> transformer;
  std::map<std::string, std::shared_ptr<const CosmosControlNetModel>>
      branches;  // by the kind of control; "" where one is all
};

// How much each control counts: its weight, or with masks a weight [B,N,1] for each token. Masked weights add up to one at
// most.
std::vector<at::Tensor> control_weights(const DiffusionInputs& inputs) {
  const std::vector<Control>& controls = inputs.conditions.controls;
  const std::vector<int64_t>& shape = inputs.shape;
  std::vector<at::Tensor> weights;
  const bool masked = std::any_of(controls.begin(), controls.end(), [](const Control& each) { return each.mask.defined(); });
  for (const Control& control : controls) {
    if (!masked) {
      weights.push_back(at::scalar_tensor(control.weight, inputs.options()));
      continue;
    }
    // A token is 1 x 2 x 2 latents; the first pixel frame stands alone in its latent frame.
    const std::vector<int64_t> first = {1, shape[3] / 2, shape[4] / 2}, rest = {shape[2] - 1, shape[3] / 2, shape[4] / 2};
    at::Tensor mask = at::full({shape[0], 1, shape[2], first[1], first[2]}, control.weight, inputs.options());
    if (control.mask.defined()) {
      const at::Tensor given = control.mask.to(at::kFloat) * control.weight;
      const auto fitted = [](const at::Tensor& part, at::IntArrayRef size) {
        return at::upsample_trilinear3d(part, size, /*align_corners=*/false);
      };
      mask = fitted(given.narrow(2, 0, 1), first);
      if (shape[2] > 1) mask = at::cat({mask, fitted(given.slice(2, 1), rest)}, 2);
    }
    weights.push_back(mask.flatten(2).transpose(1, 2));  // [B,N,1]
  }
  if (!masked) return weights;
  const at::Tensor excess = at::stack(weights).sum(0).clamp_min(1);
  for (at::Tensor& weight : weights) weight = weight / excess;
  return weights;
}

// Network and control branches with what they prepared for one prompt.
class Controlled {
 public:
  Controlled(const Networks& networks, const DiffusionInputs& inputs, const at::Tensor& text, const at::Tensor& known_mask)
      : transformer_(networks.transformer), weights_(control_weights(inputs)) {
    Conditions conditions = inputs.conditions;
    conditions.text = text;
    conditions.known_mask = known_mask;
    const CosmosTransformerConfig& config = transformer_->config();
    // Without a picture beside the prompt the reference shows a black one, whose embedding is taken to be zero.
    if (config.img_context_dim_in > 0)
      conditions.image =
          at::zeros({inputs.shape[0], config.img_context_num_tokens, config.img_context_dim_in}, inputs.options());
    context_ = transformer_->prepare_pass(conditions, inputs.shape, inputs.step_cache);
    for (const Control& control : inputs.conditions.controls) {
      const auto& branch = networks.branches.at(networks.branches.contains("") ? "" : control.kind);
      branches_.push_back({branch, branch->prepare(control_inputs(control, conditions, known_mask))});
    }
  }

  void renew(const DiffusionInputs& inputs, const at::Tensor& known_mask) {
    Conditions conditions = inputs.conditions;
    conditions.known_mask = known_mask;
    transformer_->renew(*context_, conditions, inputs.shape);
    weights_ = control_weights(inputs);
    for (size_t i = 0; i < branches_.size(); ++i)
      branches_[i].network->renew(branches_[i].context,
                                  control_inputs(inputs.conditions.controls[i], conditions, known_mask));
  }

  at::Tensor operator()(const at::Tensor& input, const at::Tensor& times) {
    auto& residuals = static_cast<CosmosContext&>(*context_).control_residuals;
    for (size_t i = 0; i < branches_.size(); ++i) {
      std::vector<at::Tensor> own = branches_[i].network->forward(input, times, branches_[i].context);
      for (at::Tensor& residual : own) residual.mul_(weights_[i]);
      if (i == 0)
        residuals = std::move(own);
      else
        for (size_t layer = 0; layer < own.size(); ++layer) residuals.at(layer).add_(own[layer]);
    }
    const at::Tensor output = transformer_->forward({.video = input}, times, *context_).video;
    residuals.clear();
    return output;
  }

 private:
  struct Branch {
    std::shared_ptr<const CosmosControlNetModel> network;
    CosmosControlNetModel::Context context;
  };

  static CosmosControlNetModel::Inputs control_inputs(const Control& control, const Conditions& conditions,
                                                      const at::Tensor& known_mask) {
    return {.controls = control.video, .text = conditions.text, .image = conditions.image, .condition_mask = known_mask};
  }

  std::shared_ptr<const CosmosTransformer3DModel> transformer_;
  std::unique_ptr<Denoiser::Context> context_;
  std::vector<Branch> branches_;
  std::vector<at::Tensor> weights_;
};

class Transfer25Run final : public DiffusionRun {
 public:
  Transfer25Run(const Networks& networks, DiffusionInputs inputs, int64_t stride)
      : stride_(stride),
        scale_(inputs.guidance_scale),
        form_(inputs.guidance_form),
        path_(inputs, stride, kConditionalTime) {
    if (!inputs.fps_modulation.value_or(false)) inputs.conditions.fps = 0;
    prompt_.emplace(networks, inputs, inputs.conditions.text, path_.mask());
    if (inputs.guided) negative_.emplace(networks, inputs, inputs.negative_text, path_.mask());
  }

  void next_window(const DiffusionInputs& inputs) override {
    path_ = KnownPath(inputs, stride_, kConditionalTime);
    prompt_->renew(inputs, path_.mask());
    if (negative_) negative_->renew(inputs, path_.mask());
  }

  at::Tensor velocity(const at::Tensor& sample, const NoiseLevel& level) override {
    const at::Tensor input = path_.shown(sample), times = path_.times(level);
    const at::Tensor c = path_.velocity((*prompt_)(input, times));
    if (!negative_) return c;
    return guide(c, path_.velocity((*negative_)(input, times)), scale_, form_);
  }

 private:
  static constexpr double kConditionalTime = 0.1;

  int64_t stride_;
  double scale_;
  GuidanceForm form_;
  KnownPath path_;
  std::optional<Controlled> prompt_, negative_;
};

class Transfer25Recipe final : public CosmosRecipe {
 public:
  explicit Transfer25Recipe(const DiffusionParts& parts) : CosmosRecipe(parts, /*video_class=*/"") {
    networks_.transformer = std::dynamic_pointer_cast<const CosmosTransformer3DModel>(denoiser_);
    for (const auto& [name, part] : parts.components) {
      if (!name.starts_with(kBranch)) continue;
      const std::string kind = name.substr(std::min(name.size(), kBranch.size() + 1));  // behind "controlnet_"
      networks_.branches[kind] = std::dynamic_pointer_cast<const CosmosControlNetModel>(part);
      if (!networks_.branches[kind]) throw Error(ErrorKind::kConfig, {.place = name, .what = "is no control branch"});
    }
    if (networks_.branches.empty() || !networks_.transformer)
      throw Error(ErrorKind::kConfig, {.place = parts.index.place(), .what = "the part 'controlnet' is missing"});
    if (networks_.branches.size() > 1 && networks_.branches.contains(""))
      throw Error(ErrorKind::kConfig,
                  {.place = parts.index.place(), .what = "names a control branch without its kind beside others"});
  }

  bool takes_controls() const override { return true; }
  int64_t overlap_frames() const override { return 1; }
  at::Tensor embed_prompt(const TextTokenizer& tokenizer, const Component& text_encoder, const std::string& prompt,
                          int64_t& cut) const override {
    return embed_chat(tokenizer, text_encoder, prompt, cut);
  }
  std::unique_ptr<DiffusionRun> begin(const DiffusionInputs& inputs) const override {
    check_kinds(inputs.conditions.controls);
    return std::make_unique<Transfer25Run>(networks_, inputs, codec_.temporal_stride);
  }

 private:
  static constexpr std::string_view kBranch = "controlnet";

  // Each control has a branch, and no branch has two.
  void check_kinds(const std::vector<Control>& controls) const {
    std::string known;
    for (const auto& [kind, branch] : networks_.branches) known += (known.empty() ? "" : ", ") + kind;
    if (networks_.branches.contains("")) {
      if (controls.size() == 1) return;
      throw Error(ErrorKind::kArgument, {.place = class_name_ + ": controls",
                                         .what = "do not fit the control branch",
                                         .expected = "one control video",
                                         .got = std::to_string(controls.size()),
                                         .hint = "several need a part 'controlnet_KIND' each"});
    }
    std::set<std::string> seen;
    for (const Control& control : controls)
      if (!networks_.branches.contains(control.kind) || !seen.insert(control.kind).second)
        throw Error(ErrorKind::kArgument, {.place = "control '" + control.kind + "'",
                                           .what = seen.contains(control.kind) ? "is given twice" : "has no branch here",
                                           .expected = "one of " + known});
  }

  Networks networks_;
};

}  // namespace

std::unique_ptr<DiffusionRecipe> build_cosmos_transfer25_recipe(const DiffusionParts& parts) {
  return std::make_unique<Transfer25Recipe>(parts);
}

}  // namespace orrery::models
