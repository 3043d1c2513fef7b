#include "models/wan/wan_recipe.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>

#include "orrery/denoiser.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr double kTrainTimesteps = 1000;
constexpr int64_t kTextTokens = 512;

// One network with the contexts of both prompts, made when the noise first falls into its range.
class Expert {
 public:
  Expert(std::shared_ptr<const Denoiser> denoiser, double scale) : denoiser_(std::move(denoiser)), scale_(scale) {}

  at::Tensor velocity(const at::Tensor& input, const at::Tensor& times, const DiffusionInputs& inputs) {
    if (!prompt_) prepare(inputs);
    const at::Tensor c = denoiser_->forward({.video = input}, times, *prompt_).video;
    if (!negative_) return c;
    return guide(c, denoiser_->forward({.video = input}, times, *negative_).video, scale_, inputs.guidance_form);
  }
  void renew(const DiffusionInputs& inputs) {
    for (const auto* context : {&prompt_, &negative_})
      if (*context) denoiser_->renew(**context, inputs.conditions, inputs.shape);
  }

 private:
  void prepare(const DiffusionInputs& inputs) {
    prompt_ = denoiser_->prepare_pass(inputs.conditions, inputs.shape, inputs.step_cache);
    if (inputs.guided) negative_ = denoiser_->prepare_pass(negative_conditions(inputs), inputs.shape, inputs.step_cache);
  }

  std::shared_ptr<const Denoiser> denoiser_;
  double scale_;
  std::unique_ptr<Denoiser::Context> prompt_, negative_;
};

// Which pixel frames of each latent frame were seen, one channel for each of a group's `stride` frames: [B,stride,t,h,w].
at::Tensor seen_frames_mask(const DiffusionInputs& inputs, int64_t stride) {
  at::Tensor mask =
      at::zeros({inputs.shape[0], stride, inputs.shape[2], inputs.shape[3], inputs.shape[4]}, inputs.options());
  mask.select(2, 0).fill_(1);  // the first frame stands alone and counts for its whole group
  if (inputs.last_frame_known) mask.select(2, -1).select(1, -1).fill_(1);
  return mask;
}

class WanRun final : public DiffusionRun {
 public:
  WanRun(const DiffusionInputs& inputs, std::shared_ptr<const Denoiser> high, std::shared_ptr<const Denoiser> low,
         double boundary, bool expand_timesteps, int64_t stride)
      : inputs_(with_known(inputs, expand_timesteps, stride)),
        high_(std::move(high), inputs.guidance_scale),
        boundary_(boundary),
        expand_timesteps_(expand_timesteps),
        stride_(stride) {
    if (low) low_.emplace(std::move(low), inputs.guidance_scale_2);
  }

  void next_window(const DiffusionInputs& inputs) override {
    inputs_ = with_known(inputs, expand_timesteps_, stride_);
    high_.renew(inputs_);
    if (low_) low_->renew(inputs_);
  }

  at::Tensor velocity(const at::Tensor& sample, const NoiseLevel& level) override {
    Expert& expert = !low_ || level.time >= boundary_ ? high_ : *low_;
    if (!known_.defined())
      return expert.velocity(sample, at::full({sample.size(0), 1}, level.time, sample.options()), inputs_);
    return expert.velocity(finish(sample), unknown_.flatten(1) * level.time, inputs_);
  }

  at::Tensor finish(at::Tensor sample) override {
    return known_.defined() ? at::where(unknown_ == 0, known_, sample) : sample;
  }

 private:
  DiffusionInputs with_known(DiffusionInputs inputs, bool expand_timesteps, int64_t stride) {
    inputs.conditions.fps = 0;
    // The original network itself fills up every text, which diffusers leaves to its text encoder.
    for (at::Tensor* text : {&inputs.conditions.text, &inputs.negative_text})
      if (inputs.original && text->defined() && text->size(1) < kTextTokens)
        *text = at::constant_pad_nd(*text, {0, 0, 0, kTextTokens - text->size(1)});
    if (inputs.fps_modulation.value_or(false))
      throw Error(ErrorKind::kArgument, {.place = "frame-rate modulation", .what = "is nothing that this network has"});
    if (inputs.history.defined() && expand_timesteps) {
      // TI2V: the seen frame is put into the sample itself, at noise time 0.
      known_ = inputs.history.narrow(2, 0, 1);
      unknown_ = at::ones({inputs.shape[0], 1, inputs.shape[2], 1, 1}, inputs.options());
      unknown_.select(2, 0).fill_(0);
    } else if (inputs.history.defined()) {
      inputs.conditions.known = inputs.history;
      inputs.conditions.known_mask = seen_frames_mask(inputs, stride);
    }
    return inputs;
  }

  at::Tensor known_, unknown_;
  DiffusionInputs inputs_;
  Expert high_;
  std::optional<Expert> low_;
  double boundary_;
  bool expand_timesteps_;
  int64_t stride_;
};

class WanRecipe final : public DiffusionRecipe {
 public:
  explicit WanRecipe(const DiffusionParts& parts)
      : codec_(parts.codec),
        takes_image_(parts.index.get<std::string>("_class_name", "") == "WanImageToVideoPipeline"),
        expand_timesteps_(parts.index.get<bool>("expand_timesteps", false)),
        boundary_(parts.index.get<double>("boundary_ratio", 0.0) * kTrainTimesteps),
        high_(denoiser(parts, "transformer")),
        low_(denoiser(parts, "transformer_2")) {
    if (!high_) std::swap(high_, low_);
    if (!high_)
      throw Error(ErrorKind::kConfig, {.place = parts.index.place(), .what = "names no transformer that can denoise"});
  }

  std::string form() const override {
    const std::string name = takes_image_ ? "WanImageToVideoPipeline" : "WanPipeline";
    return name + (expand_timesteps_ ? "/expand_timesteps" : boundary_ > 0 ? "/boundary_ratio" : "");
  }
  GuidanceForm guidance_form() const override { return GuidanceForm::kFromNegative; }
  int64_t overlap_frames() const override { return takes_image_ || expand_timesteps_ ? 1 : 0; }

  void check(int64_t num_frames, int64_t height, int64_t width, int64_t known_frames) const override {
    codec_.latent_frames(num_frames);
    check_multiple(height, width, codec_.spatial_stride * 2);
    // TI2V's one network does both.
    if (takes_image_ && known_frames == 0 && !expand_timesteps_)
      throw Error(ErrorKind::kArgument, {.place = "WanImageToVideoPipeline", .what = "needs a picture", .hint = "give -i"});
    if (!takes_image_ && known_frames > 0 && !expand_timesteps_)
      throw Error(ErrorKind::kArgument, {.place = "WanPipeline",
                                         .what = "takes no picture or video",
                                         .hint = "leave it out, or use an image-to-video checkpoint"});
    if (known_frames > 1)
      throw Error(ErrorKind::kArgument, {.place = "condition frames",
                                         .what = "do not fit the network",
                                         .expected = "1",
                                         .got = std::to_string(known_frames)});
  }

  at::Tensor conditioning_clip(const at::Tensor& seen, int64_t num_frames) const override {
    if (expand_timesteps_) return seen;
    // The network sees the latents of the picture followed by grey frames.
    return at::cat({seen, at::zeros_like(seen).expand({-1, -1, num_frames - seen.size(2), -1, -1})}, 2);
  }

  int64_t latent_channels() const override { return codec_.latent_channels; }

  at::Tensor embed_prompt(const TextTokenizer& tokenizer, const Component& text_encoder, const std::string& prompt,
                          int64_t& cut) const override {
    return embed_masked(tokenizer, text_encoder, collapse_white_space(prompt), kTextTokens, cut);
  }

  // The last layer but one, before CLIP's own head shapes it.
  at::Tensor embed_pictures(const Component& image_encoder, const at::Tensor& pixel_values) const override {
    const TensorMap states = image_encoder.call("forward", {{"pixel_values", pixel_values}}, {.all_layers = true});
    int64_t last = 0;
    while (states.contains("hidden_states." + std::to_string(last + 1))) ++last;
    return states.at("hidden_states." + std::to_string(std::max<int64_t>(last - 1, 0)));
  }

  std::unique_ptr<DiffusionRun> begin(const DiffusionInputs& inputs) const override {
    return std::make_unique<WanRun>(inputs, high_, low_, boundary_, expand_timesteps_, codec_.temporal_stride);
  }

 private:
  static std::shared_ptr<const Denoiser> denoiser(const DiffusionParts& parts, const std::string& name) {
    const auto found = parts.components.find(name);
    return found == parts.components.end() ? nullptr : std::dynamic_pointer_cast<const Denoiser>(found->second);
  }

  CodecSpec codec_;
  bool takes_image_, expand_timesteps_;
  double boundary_;
  std::shared_ptr<const Denoiser> high_, low_;
};

}  // namespace

std::unique_ptr<DiffusionRecipe> build_wan_recipe(const DiffusionParts& parts) {
  return std::make_unique<WanRecipe>(parts);
}

}  // namespace orrery::models
