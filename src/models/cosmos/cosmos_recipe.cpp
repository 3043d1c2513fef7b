#include "models/cosmos/cosmos_recipe.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "models/cosmos/cosmos_transformer_3d_model.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr int64_t kTextTokens = 512;
constexpr double kTrainTimesteps = 1000;
// What the text encoder of Predict2.5 was asked with in training; the embedding depends on every word of it.
constexpr const char* kSystemPrompt = "You are a helpful assistant who will provide prompts to an image generator.";

// Latent frames that the first `frames` pixel frames take.
int64_t latent_count(int64_t frames, int64_t stride) {
  return frames > 0 ? (frames - 1) / stride + 1 : 0;
}

}  // namespace

std::shared_ptr<const Denoiser> denoiser_of(const DiffusionParts& parts) {
  const auto found = parts.components.find("transformer");
  auto denoiser = found == parts.components.end() ? nullptr : std::dynamic_pointer_cast<const Denoiser>(found->second);
  if (!denoiser)
    throw Error(ErrorKind::kConfig, {.place = parts.index.place(), .what = "names no transformer that can denoise"});
  return denoiser;
}

KnownFrames::KnownFrames(const DiffusionInputs& inputs, int64_t stride, double scale) {
  const std::vector<int64_t>& shape = inputs.shape;
  const int64_t known = latent_count(inputs.history_frames, stride);
  any = known > 0;
  indicator = at::zeros({shape[0], 1, shape[2], 1, 1}, inputs.options());
  mask = indicator.expand({shape[0], 1, shape[2], shape[3], shape[4]});
  latents = at::zeros(shape, inputs.options());
  if (!any) return;
  indicator.narrow(2, 0, std::min(known, shape[2])).fill_(1);
  latents.narrow(2, 0, known).copy_(inputs.history.narrow(2, 0, known) * scale);
}

KnownPath::KnownPath(const DiffusionInputs& inputs, int64_t stride, std::optional<double> time)
    : known_(inputs, stride, 1), time_(time), original_(inputs.original) {}

at::Tensor KnownPath::shown(const at::Tensor& sample) {
  if (!velocity_.defined()) velocity_ = (sample - known_.latents) * known_.indicator;
  return at::lerp(sample, known_.latents, known_.indicator);
}

at::Tensor KnownPath::times(const NoiseLevel& level) const {
  const double time = original_ ? level.time / kTrainTimesteps : level.sigma;
  const at::Tensor& known = known_.indicator;
  return at::lerp(at::full_like(known, time), at::full_like(known, time_.value_or(time)), known).flatten(1);
}

at::Tensor KnownPath::velocity(const at::Tensor& output) const {
  return at::lerp(output, velocity_, known_.indicator);
}

at::Tensor embed_chat(const TextTokenizer& tokenizer, const Component& text_encoder, const std::string& prompt,
                      int64_t& cut) {
  const std::string chat = chat_text({{"system", kSystemPrompt}, {"user", prompt}});
  const TokenizedText tokens = tokenizer.encode({chat}, kTextTokens);
  cut = tokens.cut;
  const TensorMap states =
      text_encoder.call("forward", {{"input_ids", tokens.input_ids.to(text_encoder.device())}}, {.all_layers = true});
  std::vector<at::Tensor> layers;
  for (int64_t i = 1; states.contains("hidden_states." + std::to_string(i)); ++i) {
    const at::Tensor& state = states.at("hidden_states." + std::to_string(i));  // [1,L,D]
    layers.push_back((state - state.mean(-1, /*keepdim=*/true)) /
                     (state.std(-1, /*unbiased=*/true, /*keepdim=*/true) + 1e-8));
  }
  return at::cat(layers, -1);  // [1,L,D·layers]
}

Guided::Guided(std::shared_ptr<const Denoiser> denoiser, const DiffusionInputs& inputs, const at::Tensor& known_mask)
    : denoiser_(std::move(denoiser)), scale_(inputs.guidance_scale), form_(inputs.guidance_form) {
  Conditions conditions = inputs.conditions;
  conditions.known_mask = known_mask;
  prompt_ = denoiser_->prepare_pass(conditions, inputs.shape, inputs.step_cache);
  if (!inputs.guided) return;
  conditions = negative_conditions(inputs);
  conditions.known_mask = known_mask;
  negative_ = denoiser_->prepare_pass(conditions, inputs.shape, inputs.step_cache);
}

void Guided::renew(const DiffusionInputs& inputs, const at::Tensor& known_mask) {
  Conditions conditions = inputs.conditions;
  conditions.known_mask = known_mask;
  denoiser_->renew(*prompt_, conditions, inputs.shape);
  if (negative_) denoiser_->renew(*negative_, conditions, inputs.shape);
}

CosmosRecipe::CosmosRecipe(const DiffusionParts& parts, const std::string& video_class)
    : denoiser_(denoiser_of(parts)),
      codec_(parts.codec),
      class_name_(parts.index.get<std::string>("_class_name", "")),
      takes_video_(video_class.empty() || class_name_ == video_class) {
  const auto network = std::dynamic_pointer_cast<const CosmosTransformer3DModel>(denoiser_);
  if (!network || network->config().action_features == 0) return;
  actions_.emplace(network->config().action_features, network->config().actions_per_latent_frame);
  takes_video_ = true;
}

int64_t CosmosRecipe::overlap_frames() const {
  if (actions_) return 1;
  return takes_video_ ? 1 + codec_.temporal_stride : 0;
}

at::Tensor CosmosRecipe::handed_on(const at::Tensor& frames) const {
  return actions_ ? as_written_pictures(frames) : frames;
}

void CosmosRecipe::check(int64_t num_frames, int64_t height, int64_t width, int64_t known_frames) const {
  codec_.latent_frames(num_frames);
  check_multiple(height, width, codec_.spatial_stride * 2);
  if (actions_ && known_frames != 1)
    throw Error(ErrorKind::kArgument, {.place = class_name_ + ": condition frames",
                                       .what = "are not the one frame that a robot's chunk begins with",
                                       .expected = "1",
                                       .got = std::to_string(known_frames),
                                       .hint = "give a picture, or a video with --condition-frames 1"});
  if (known_frames > 0 && !takes_video_)
    throw Error(ErrorKind::kArgument, {.place = class_name_,
                                       .what = "takes no picture or video",
                                       .hint = "leave it out, or use a video-to-world checkpoint"});
}

at::Tensor CosmosRecipe::embed_prompt(const TextTokenizer& tokenizer, const Component& text_encoder,
                                      const std::string& prompt, int64_t& cut) const {
  return embed_masked(tokenizer, text_encoder, prompt, kTextTokens, cut);
}

at::Tensor CosmosRecipe::conditioning_clip(const at::Tensor& seen, int64_t num_frames) const {
  const int64_t frames = seen.size(2);
  if (frames >= num_frames) return seen.narrow(2, frames - num_frames, num_frames);
  // Latents of later frames are not used, so only the group that the last seen frame stands in is filled up.
  const int64_t whole = codec_.pixel_frames(latent_count(frames, codec_.temporal_stride));
  if (whole == frames) return seen;
  return at::cat({seen, filler(seen).expand({-1, -1, whole - frames, -1, -1})}, 2);
}

at::Tensor CosmosRecipe::filler(const at::Tensor& seen) const {
  return seen.narrow(2, seen.size(2) - 1, 1);
}

}  // namespace orrery::models
