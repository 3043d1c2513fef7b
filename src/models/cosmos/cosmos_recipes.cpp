#include "models/cosmos/cosmos_recipes.h"

#include <ATen/ATen.h>

#include <cmath>
#include <string>

#include "orrery/denoiser.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr int64_t kTextTokens = 512;
// What the text encoder of Predict2.5 was asked with in training; the embedding depends on every word of it.
constexpr const char* kSystemPrompt = "You are a helpful assistant who will provide prompts to an image generator.";

std::shared_ptr<const Denoiser> denoiser_of(const DiffusionParts& parts) {
  const auto found = parts.components.find("transformer");
  auto denoiser = found == parts.components.end() ? nullptr : std::dynamic_pointer_cast<const Denoiser>(found->second);
  if (!denoiser)
    throw Error(ErrorKind::kConfig, {.place = parts.index.place(), .what = "names no transformer that can denoise"});
  return denoiser;
}

// Known frames of a clip: ones at [B,1,t,1,1] where a latent frame is given.
at::Tensor frame_indicator(at::IntArrayRef shape, int64_t known) {
  at::Tensor indicator = at::zeros({shape[0], 1, shape[2], 1, 1}, at::kFloat);
  if (known > 0) indicator.narrow(2, 0, std::min(known, shape[2])).fill_(1);
  return indicator;
}

int64_t latent_count(int64_t frames, int64_t stride) { return frames > 0 ? (frames - 1) / stride + 1 : 0; }

at::Tensor known_latents(const DiffusionInputs& inputs, int64_t known, double scale) {
  at::Tensor latents = at::zeros(inputs.shape, at::kFloat);
  if (known > 0) latents.narrow(2, 0, known).copy_(inputs.history.narrow(2, 0, known) * scale);
  return latents;
}

// Both sides of guidance: the prompt's context and, where guidance is on, the negative prompt's.
struct Guided {
  Guided(const std::shared_ptr<const Denoiser>& network, const DiffusionInputs& inputs, const at::Tensor& known_mask)
      : denoiser(network), scale(inputs.guidance_scale) {
    Conditions conditions = inputs.conditions;
    conditions.known_mask = known_mask;
    prompt = denoiser->prepare(conditions, inputs.shape);
    if (scale <= 1) return;
    if (!inputs.negative_text.defined())
      throw Error(ErrorKind::kArgument, {.place = "guidance_scale",
                                         .what = "needs a negative prompt to be guided away from",
                                         .hint = "give negative prompt embeddings, or guidance scale 1"});
    conditions.text = inputs.negative_text;
    conditions.text_mask = inputs.negative_text_mask;
    negative = denoiser->prepare(conditions, inputs.shape);
  }

  // `meaning` turns what the network says into what is mixed; c + g (c − u), as Cosmos writes it.
  template <typename Meaning>
  at::Tensor operator()(const at::Tensor& input, const at::Tensor& times, const Meaning& meaning) const {
    const at::Tensor conditional = meaning(denoiser->forward({.video = input}, times, *prompt).video);
    if (!negative) return conditional;
    const at::Tensor unconditional = meaning(denoiser->forward({.video = input}, times, *negative).video);
    return conditional + (conditional - unconditional) * scale;
  }

  std::shared_ptr<const Denoiser> denoiser;
  double scale;
  std::unique_ptr<Denoiser::Context> prompt, negative;
};

class CosmosRecipe : public DiffusionRecipe {
 public:
  explicit CosmosRecipe(const DiffusionParts& parts, bool takes_video)
      : denoiser_(denoiser_of(parts)),
        codec_(parts.codec),
        takes_video_(takes_video),
        class_name_(parts.index.get<std::string>("_class_name", "")) {}

  void check(int64_t num_frames, int64_t height, int64_t width, int64_t known_frames) const override {
    codec_.latent_frames(num_frames);
    const int64_t unit = codec_.spatial_stride * 2;
    if (height % unit != 0 || width % unit != 0)
      throw Error(ErrorKind::kArgument,
                  {.place = "size",
                   .what = "does not fit the network",
                   .expected = "width and height that are multiples of " + std::to_string(unit),
                   .got = std::to_string(width) + "x" + std::to_string(height),
                   .hint = "the nearest below is " + std::to_string(width / unit * unit) + "x" +
                           std::to_string(height / unit * unit)});
    if (known_frames > 0 && !takes_video_)
      throw Error(ErrorKind::kArgument, {.place = class_name_,
                                         .what = "takes no picture or video",
                                         .hint = "leave it out, or use a video-to-world checkpoint"});
  }
  int64_t latent_channels() const override { return codec_.latent_channels; }
  at::Tensor embed_prompt(const TextTokenizer& tokenizer, const Component& text_encoder, const std::string& prompt,
                          int64_t& cut) const override {
    return embed_masked(tokenizer, text_encoder, prompt, kTextTokens, cut);
  }
  at::Tensor conditioning_clip(const at::Tensor& seen, int64_t num_frames) const override {
    const int64_t frames = seen.size(2);
    if (frames >= num_frames) return seen.narrow(2, frames - num_frames, num_frames);
    // Latents of later frames are not used, so only the group that the last seen frame stands in is filled up.
    const int64_t whole = codec_.pixel_frames(latent_count(frames, codec_.temporal_stride));
    if (whole == frames) return seen;
    return at::cat({seen, filler(seen).expand({-1, -1, whole - frames, -1, -1})}, 2);
  }

 protected:
  // What stands behind the seen frames in the reference's clip, [B,3,1,H,W].
  virtual at::Tensor filler(const at::Tensor& seen) const { return seen.narrow(2, seen.size(2) - 1, 1); }

  std::shared_ptr<const Denoiser> denoiser_;
  CodecSpec codec_;
  bool takes_video_;
  std::string class_name_;
};

// ---------------------------------------------------------------------------------------------------------- Predict1
class Predict1Run final : public DiffusionRun {
 public:
  Predict1Run(const std::shared_ptr<const Denoiser>& denoiser, const DiffusionInputs& inputs, bool takes_video,
              int64_t stride, double sigma_data)
      : sigma_data_(sigma_data) {
    const int64_t known = latent_count(inputs.history_frames, stride);
    indicator_ = frame_indicator(inputs.shape, known);
    known_ = known_latents(inputs, known, sigma_data);
    at::Tensor mask;
    if (takes_video) mask = indicator_.expand({inputs.shape[0], 1, inputs.shape[2], inputs.shape[3], inputs.shape[4]});
    guided_.emplace(denoiser, inputs, mask);
  }

  at::Tensor velocity(const at::Tensor& sample, const NoiseLevel& level) override {
    const double sigma = level.sigma, data = sigma_data_;
    const double norm = std::sqrt(sigma * sigma + data * data);
    const double c_skip = data * data / (norm * norm), c_out = sigma * data / norm;
    // Known frames enter at the small noise of their own, not at that of the step; below it they are left to the network.
    const at::Tensor indicator = kAugmentSigma >= sigma ? at::zeros_like(indicator_) : indicator_;
    const double c_in_augment = 1 / std::sqrt(kAugmentSigma * kAugmentSigma + data * data);
    const at::Tensor input = at::lerp(sample * (1 / norm), known_ * c_in_augment, indicator);
    const at::Tensor times = at::full({sample.size(0), 1}, level.time, at::kFloat);
    const at::Tensor denoised = (*guided_)(input, times, [&](const at::Tensor& output) {
      return at::lerp(sample * c_skip + output * c_out, known_, indicator);
    });
    return (sample - denoised) / sigma;
  }

 private:
  static constexpr double kAugmentSigma = 0.001;
  double sigma_data_;
  at::Tensor indicator_, known_;
  std::optional<Guided> guided_;
};

class Predict1Recipe final : public CosmosRecipe {
 public:
  explicit Predict1Recipe(const DiffusionParts& parts)
      : CosmosRecipe(parts, parts.index.get<std::string>("_class_name", "") == "CosmosVideoToWorldPipeline"),
        sigma_data_(parts.scheduler.get<double>("sigma_data", 0.5)),
        sigma_max_(parts.scheduler.get<double>("sigma_max", 80.0)) {}

  GenerationDefaults defaults() const override {
    return {.num_frames = 121, .height = 704, .width = 1280, .steps = 36, .guidance_scale = 7.0, .fps = 30};
  }
  double noise_scale() const override { return sigma_max_; }
  at::Tensor to_codec(const at::Tensor& sample) const override { return sample / sigma_data_; }
  std::unique_ptr<DiffusionRun> begin(const DiffusionInputs& inputs) const override {
    return std::make_unique<Predict1Run>(denoiser_, inputs, takes_video_, codec_.temporal_stride, sigma_data_);
  }

 private:
  at::Tensor filler(const at::Tensor& seen) const override { return at::zeros_like(seen.narrow(2, 0, 1)); }
  double sigma_data_, sigma_max_;
};

// ---------------------------------------------------------------------------------------------------------- Predict2
class Predict2Run final : public DiffusionRun {
 public:
  Predict2Run(const std::shared_ptr<const Denoiser>& denoiser, DiffusionInputs inputs, bool takes_video, int64_t stride,
              double sigma_data) {
    const int64_t known = latent_count(inputs.history_frames, stride);
    known_ = known_latents(inputs, known, sigma_data);
    at::Tensor mask;
    if (takes_video) {
      indicator_ = frame_indicator(inputs.shape, known);
      mask = indicator_.expand({inputs.shape[0], 1, inputs.shape[2], inputs.shape[3], inputs.shape[4]});
    } else {
      inputs.conditions.fps = 0;  // the text-to-image pipeline does not tell the network a frame rate
    }
    guided_.emplace(denoiser, inputs, mask);
  }

  at::Tensor velocity(const at::Tensor& sample, const NoiseLevel& level) override {
    const double t = level.sigma / (level.sigma + 1);
    at::Tensor input = sample * (1 - t), times = at::full({sample.size(0), 1}, t, at::kFloat);
    if (indicator_.defined()) {
      constexpr double kConditioningTime = kSigmaConditioning / (kSigmaConditioning + 1);
      input = at::lerp(input, known_, indicator_);
      times = at::lerp(at::full_like(indicator_, t), at::full_like(indicator_, kConditioningTime), indicator_).flatten(1);
    }
    const at::Tensor denoised = (*guided_)(input, times, [&](const at::Tensor& output) {
      const at::Tensor x0 = sample * (1 - t) - output * t;
      return indicator_.defined() ? at::lerp(x0, known_, indicator_) : x0;
    });
    return (sample - denoised) / level.sigma;
  }

 private:
  static constexpr double kSigmaConditioning = 0.0001;
  at::Tensor indicator_, known_;
  std::optional<Guided> guided_;
};

class Predict2Recipe final : public CosmosRecipe {
 public:
  explicit Predict2Recipe(const DiffusionParts& parts)
      : CosmosRecipe(parts, parts.index.get<std::string>("_class_name", "") == "Cosmos2VideoToWorldPipeline"),
        sigma_data_(parts.scheduler.get<double>("sigma_data", 1.0)),
        sigma_max_(parts.scheduler.get<double>("sigma_max", 80.0)),
        repeats_last_sigma_(parts.scheduler.get<std::string>("final_sigmas_type", "zero") == "sigma_min") {}

  GenerationDefaults defaults() const override {
    if (!takes_video_) return {.num_frames = 1, .height = 768, .width = 1360, .steps = 35, .guidance_scale = 7.0, .fps = 16};
    return {.num_frames = 93, .height = 704, .width = 1280, .steps = 35, .guidance_scale = 7.0, .fps = 16};
  }
  double noise_scale() const override { return sigma_max_; }
  bool unit_ramp() const override { return true; }
  bool repeats_last_sigma() const override { return repeats_last_sigma_; }
  at::Tensor to_codec(const at::Tensor& sample) const override { return sample / sigma_data_; }
  std::unique_ptr<DiffusionRun> begin(const DiffusionInputs& inputs) const override {
    return std::make_unique<Predict2Run>(denoiser_, inputs, takes_video_, codec_.temporal_stride, sigma_data_);
  }

 private:
  double sigma_data_, sigma_max_;
  bool repeats_last_sigma_;
};

// -------------------------------------------------------------------------------------------------------- Predict2.5
class Predict25Run final : public DiffusionRun {
 public:
  Predict25Run(const std::shared_ptr<const Denoiser>& denoiser, DiffusionInputs inputs, int64_t stride) {
    const int64_t known = latent_count(inputs.history_frames, stride);
    inputs.conditions.fps = 0;  // Predict2.5 was trained without frame-rate modulation
    indicator_ = frame_indicator(inputs.shape, known);
    known_ = known_latents(inputs, known, 1.0);
    guided_.emplace(denoiser, inputs,
                    indicator_.expand({inputs.shape[0], 1, inputs.shape[2], inputs.shape[3], inputs.shape[4]}));
  }

  at::Tensor velocity(const at::Tensor& sample, const NoiseLevel& level) override {
    // The straight path from the first noise to a known frame, so that the solver carries known frames along it.
    if (!known_velocity_.defined()) known_velocity_ = (sample - known_) * indicator_;
    const at::Tensor times =
        at::lerp(at::full_like(indicator_, level.sigma), at::full_like(indicator_, kConditionalTime), indicator_).flatten(1);
    return (*guided_)(at::lerp(sample, known_, indicator_), times,
                      [&](const at::Tensor& output) { return at::lerp(output, known_velocity_, indicator_); });
  }

 private:
  static constexpr double kConditionalTime = 0.0001;
  at::Tensor indicator_, known_, known_velocity_;
  std::optional<Guided> guided_;
};

class Predict25Recipe final : public CosmosRecipe {
 public:
  explicit Predict25Recipe(const DiffusionParts& parts) : CosmosRecipe(parts, /*takes_video=*/true) {}
  GenerationDefaults defaults() const override {
    return {.num_frames = 93, .height = 704, .width = 1280, .steps = 36, .guidance_scale = 7.0, .fps = 16};
  }
  int64_t usable_frames(int64_t seen) const override {
    const int64_t two_latents = 1 + codec_.temporal_stride;
    return seen >= two_latents ? two_latents : std::min<int64_t>(seen, 1);
  }
  // Every layer of the chat model counts, each normalised by itself; padding is not masked, as in the reference.
  at::Tensor embed_prompt(const TextTokenizer& tokenizer, const Component& text_encoder, const std::string& prompt,
                          int64_t& cut) const override {
    const std::string chat = chat_text({{"system", kSystemPrompt}, {"user", prompt}});
    const TokenizedText tokens = tokenizer.encode({chat}, kTextTokens);
    cut = tokens.cut;
    const TensorMap states = text_encoder.call("forward", {{"input_ids", tokens.input_ids}}, {.all_layers = true});
    std::vector<at::Tensor> layers;
    for (int64_t i = 1; states.contains("hidden_states." + std::to_string(i)); ++i) {
      const at::Tensor& state = states.at("hidden_states." + std::to_string(i));  // [1,L,D]
      layers.push_back((state - state.mean(-1, /*keepdim=*/true)) / (state.std(-1, /*unbiased=*/true, /*keepdim=*/true) + 1e-8));
    }
    return at::cat(layers, -1);  // [1,L,D·layers]
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
    return std::make_unique<Predict25Run>(denoiser_, inputs, codec_.temporal_stride);
  }
};

}  // namespace

std::unique_ptr<DiffusionRecipe> build_cosmos_predict1_recipe(const DiffusionParts& parts) {
  return std::make_unique<Predict1Recipe>(parts);
}

std::unique_ptr<DiffusionRecipe> build_cosmos_predict2_recipe(const DiffusionParts& parts) {
  return std::make_unique<Predict2Recipe>(parts);
}

std::unique_ptr<DiffusionRecipe> build_cosmos_predict25_recipe(const DiffusionParts& parts) {
  return std::make_unique<Predict25Recipe>(parts);
}

}  // namespace orrery::models
