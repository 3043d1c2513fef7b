#include "models/cosmos/token_decoder.h"

#include <ATen/ATen.h>

#include <cmath>

#include "models/cosmos/cosmos_recipe.h"
#include "models/cosmos/cosmos_transformer_3d_model.h"
#include "orrery/error.h"

namespace orrery::models {
namespace {

constexpr const char* kTokens = "tokens";
constexpr double kSigmaData = 0.5, kSigmaMax = 80;

[[noreturn]] void refuse(const std::string& place, const std::string& what, const std::string& expected = {}) {
  throw Error(ErrorKind::kArgument, {.place = place, .what = what, .expected = expected});
}

}  // namespace

struct DiffusionDecoderGeneralDIT::TokenContext final : Context {
  std::unique_ptr<Context> network;
  at::Tensor tokens;  // [B,D',t,h,w] of the latents' size
};

DiffusionDecoderGeneralDIT::DiffusionDecoderGeneralDIT(const Config& config, const Weights& weights)
    : token_embedder_(weights.as_stored().get(
          "token_embedder.weight", {config.require<int64_t>("token_vocabulary"), config.require<int64_t>("token_dim")})),
      component_(build_cosmos_transformer_3d_model(config, weights)),
      network_(dynamic_cast<const Denoiser&>(*component_)) {}

// Tokens [B,1,t,h',w'] as the channels that stand beside the latents, [B,D',t,h,w].
at::Tensor DiffusionDecoderGeneralDIT::embedded(const Conditions& conditions, at::IntArrayRef shape) const {
  const std::string expected = "int64 [B,1," + std::to_string(shape[2]) + ",h,w]";
  if (conditions.controls.size() != 1 || conditions.controls.front().kind != kTokens)
    refuse(class_name(), "needs tokens to sharpen, and nothing else to steer it", expected);
  const at::Tensor& tokens = conditions.controls.front().video;
  if (!tokens.defined() || tokens.dim() != 5 || tokens.size(1) != 1 || tokens.size(2) != shape[2] || tokens.numel() == 0 ||
      at::isFloatingType(tokens.scalar_type()))
    refuse(class_name() + ": tokens", "have the wrong shape or dtype", expected);
  if (tokens.min().item<int64_t>() < 0 || tokens.max().item<int64_t>() >= token_embedder_.size(0))
    refuse(class_name() + ": tokens", "are not those of its tokenizer",
           "0 … " + std::to_string(token_embedder_.size(0) - 1));
  const at::Tensor vectors = at::embedding(token_embedder_, tokens.squeeze(1).to(at::kLong)).to(at::kFloat);
  const at::Tensor pictures = vectors.permute({0, 1, 4, 2, 3}).flatten(0, 1);  // [B·t,D',h',w']
  return at::upsample_bilinear2d(pictures, {shape[3], shape[4]}, /*align_corners=*/false)
      .unflatten(0, {tokens.size(0), shape[2]})
      .transpose(1, 2)
      .contiguous();
}

std::unique_ptr<Denoiser::Context> DiffusionDecoderGeneralDIT::prepare(const Conditions& conditions,
                                                                       at::IntArrayRef shape) const {
  auto context = std::make_unique<TokenContext>();
  context->tokens = embedded(conditions, shape);
  context->network = network_.prepare(conditions, shape);
  return context;
}

void DiffusionDecoderGeneralDIT::renew(Context& context, const Conditions& conditions, at::IntArrayRef shape) const {
  dynamic_cast<TokenContext&>(context).tokens = embedded(conditions, shape);
}

Latents DiffusionDecoderGeneralDIT::forward(const Latents& noisy, const at::Tensor& times, const Context& context) const {
  const auto& mine = dynamic_cast<const TokenContext&>(context);
  Latents beside = noisy;
  beside.video = at::cat({noisy.video, mine.tokens.to(noisy.video.scalar_type())}, 1);
  return network_.forward(beside, times, *mine.network);
}

TensorMap DiffusionDecoderGeneralDIT::call(const std::string& function, const TensorMap& inputs, const CallOptions&) const {
  if (function != "forward") refuse(class_name() + "." + function, "is not known", "forward");
  const at::Tensor latents = require_input(inputs, "hidden_states", "transformer.forward").to(at::kFloat);
  if (latents.dim() != 5) refuse("hidden_states", "have the wrong shape", "[B,C,t,h,w]");
  Conditions conditions;
  conditions.text = require_input(inputs, "encoder_hidden_states", "transformer.forward").to(at::kFloat);
  conditions.controls = {{.kind = kTokens, .video = require_input(inputs, "latent_condition", "transformer.forward")}};
  if (const auto fps = inputs.find("fps"); fps != inputs.end()) conditions.fps = fps->second.to(at::kDouble).item<double>();
  const auto context = prepare(conditions, latents.sizes());
  const at::Tensor times = cosmos_times(require_input(inputs, "timestep", "transformer.forward"));
  return {{"sample", forward({.video = latents}, times, *context).video}};
}

std::unique_ptr<Component> build_cosmos_token_decoder(const Config& config, const Weights& weights) {
  return std::make_unique<DiffusionDecoderGeneralDIT>(config, weights);
}

namespace {

class TokenDecoderRun final : public DiffusionRun {
 public:
  TokenDecoderRun(std::shared_ptr<const Denoiser> denoiser, const DiffusionInputs& inputs)
      : denoiser_(std::move(denoiser)), scale_(inputs.guidance_scale) {
    followed_ = denoiser_->prepare(inputs.conditions, inputs.shape);
    ignored_ = denoiser_->prepare(unguided(inputs.conditions), inputs.shape);
  }

  void next_window(const DiffusionInputs& inputs) override {
    denoiser_->renew(*followed_, inputs.conditions, inputs.shape);
    denoiser_->renew(*ignored_, unguided(inputs.conditions), inputs.shape);
  }

  at::Tensor velocity(const at::Tensor& sample, const NoiseLevel& level) override {
    const double sigma = level.sigma, norm = std::sqrt(sigma * sigma + kSigmaData * kSigmaData);
    const Latents input{.video = sample * (1 / norm)};
    const at::Tensor times = at::full({sample.size(0), 1}, level.time, sample.options());
    const at::Tensor output = guide(denoiser_->forward(input, times, *followed_).video,
                                    denoiser_->forward(input, times, *ignored_).video, scale_, GuidanceForm::kFromPrompt);
    const at::Tensor clean = sample * (kSigmaData * kSigmaData / (norm * norm)) + output * (sigma * kSigmaData / norm);
    return (sample - clean) / sigma;
  }

 private:
  static Conditions unguided(Conditions conditions) {
    conditions.text = at::zeros_like(conditions.text);
    for (Control& control : conditions.controls) control.video = at::zeros_like(control.video);
    return conditions;
  }

  std::shared_ptr<const Denoiser> denoiser_;
  double scale_;
  std::unique_ptr<Denoiser::Context> followed_, ignored_;
};

class TokenDecoderRecipe final : public DiffusionRecipe {
 public:
  explicit TokenDecoderRecipe(const DiffusionParts& parts) : codec_(parts.codec), denoiser_(denoiser_of(parts)) {}

  std::string form() const override { return "DiffusionDecoderGeneralDIT"; }
  GuidanceForm guidance_form() const override { return GuidanceForm::kFromPrompt; }
  void check(int64_t, int64_t height, int64_t width, int64_t) const override {
    check_multiple(height, width, 2 * codec_.spatial_stride);
  }
  bool takes_controls() const override { return true; }
  at::Tensor conditioning_clip(const at::Tensor& seen, int64_t) const override { return seen; }
  at::Tensor embed_prompt(const TextTokenizer& tokenizer, const Component& text_encoder, const std::string& prompt,
                          int64_t& cut) const override {
    return embed_masked(tokenizer, text_encoder, prompt, 512, cut);
  }
  int64_t latent_channels() const override { return codec_.latent_channels; }
  double noise_scale() const override { return std::sqrt(kSigmaMax * kSigmaMax + 1); }
  at::Tensor to_codec(const at::Tensor& sample) const override { return sample / kSigmaData; }
  std::unique_ptr<DiffusionRun> begin(const DiffusionInputs& inputs) const override {
    return std::make_unique<TokenDecoderRun>(denoiser_, inputs);
  }

 private:
  CodecSpec codec_;
  std::shared_ptr<const Denoiser> denoiser_;
};

}  // namespace

std::unique_ptr<DiffusionRecipe> build_cosmos_token_decoder_recipe(const DiffusionParts& parts) {
  return std::make_unique<TokenDecoderRecipe>(parts);
}

}  // namespace orrery::models
