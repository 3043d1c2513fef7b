#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "models/cosmos/cosmos_actions.h"
#include "orrery/denoiser.h"
#include "orrery/diffusion.h"

namespace orrery::models {

/// The part "transformer" as a denoiser. Throws Error(kConfig) where there is none.
std::shared_ptr<const Denoiser> denoiser_of(const DiffusionParts& parts);

/// The latent frames of a window that are given: its first.
struct KnownFrames {
  KnownFrames() = default;
  /// Those of the history, times `scale`. `stride`: pixel frames of a latent.
  KnownFrames(const DiffusionInputs& inputs, int64_t stride, double scale);

  bool any = false;
  at::Tensor indicator;  ///< ones where a frame is known, [B,1,t,1,1]
  at::Tensor mask;       ///< the same as a channel, [B,1,t,h,w]
  at::Tensor latents;    ///< zero where nothing is known, [B,C,t,h,w]
};

/// Known frames in a rectified flow: they go the straight path from the first noise, so that the solver carries them along.
class KnownPath {
 public:
  KnownPath() = default;
  /// `time`: of the known frames, as the network is told; without it, and of the others, it is the step's. The original
  /// feeds its schedule's whole-numbered times, diffusers the exact ones.
  KnownPath(const DiffusionInputs& inputs, int64_t stride, std::optional<double> time);

  const at::Tensor& mask() const { return known_.mask; }
  /// What the network sees of `sample` [B,C,t,h,w]. The first one begins the path.
  at::Tensor shown(const at::Tensor& sample);
  at::Tensor times(const NoiseLevel& level) const;      ///< [B,t]
  at::Tensor velocity(const at::Tensor& output) const;  ///< the network's, and the path's where frames are known

 private:
  KnownFrames known_;
  std::optional<double> time_;
  bool original_ = false;
  at::Tensor velocity_;
};

/// A prompt as Predict2.5's chat model embeds it, float [1,512,D·layers]: every layer counts, each normalised by itself;
/// padding is not masked, as in the reference.
at::Tensor embed_chat(const TextTokenizer& tokenizer, const Component& text_encoder, const std::string& prompt,
                      int64_t& cut);

/// Both sides of guidance: the prompt's context and, where guidance is on, the negative prompt's. Made once; other windows
/// renew it.
class Guided {
 public:
  Guided(std::shared_ptr<const Denoiser> denoiser, const DiffusionInputs& inputs, const at::Tensor& known_mask);
  /// Other known frames, the same prompts.
  void renew(const DiffusionInputs& inputs, const at::Tensor& known_mask);

  /// `meaning` turns what the network says into what is mixed.
  template <typename Meaning>
  at::Tensor operator()(const at::Tensor& input, const at::Tensor& times, const Meaning& meaning) const {
    return (*this)(input, input, times, meaning);
  }
  /// With an input of its own for the negative prompt.
  template <typename Meaning>
  at::Tensor operator()(const at::Tensor& input, const at::Tensor& negative_input, const at::Tensor& times,
                        const Meaning& meaning) const {
    const at::Tensor c = meaning(denoiser_->forward({.video = input}, times, *prompt_).video);
    if (!negative_) return c;
    return guide(c, meaning(denoiser_->forward({.video = negative_input}, times, *negative_).video), scale_, form_);
  }
  bool on() const { return negative_ != nullptr; }

 private:
  std::shared_ptr<const Denoiser> denoiser_;
  double scale_;
  GuidanceForm form_;
  std::unique_ptr<Denoiser::Context> prompt_, negative_;
};

/// What the Cosmos pipelines have in common.
class CosmosRecipe : public DiffusionRecipe {
 public:
  /// `video_class`: the pipeline class that takes pictures and videos; empty: every one does.
  CosmosRecipe(const DiffusionParts& parts, const std::string& video_class);

  std::string form() const override { return class_name_; }
  GuidanceForm guidance_form() const override { return GuidanceForm::kFromPrompt; }
  void check(int64_t num_frames, int64_t height, int64_t width, int64_t known_frames) const override;
  int64_t latent_channels() const override { return codec_.latent_channels; }
  at::Tensor embed_prompt(const TextTokenizer& tokenizer, const Component& text_encoder, const std::string& prompt,
                          int64_t& cut) const override;
  int64_t usable_frames(int64_t seen) const override { return actions_ ? 1 : seen; }
  const ActionSpace* action_space() const override { return actions_ ? &actions_->space() : nullptr; }
  at::Tensor normalised_actions(const at::Tensor& rows) const override { return actions_->normalised(rows); }
  int64_t overlap_frames() const override;
  at::Tensor handed_on(const at::Tensor& frames) const override;
  at::Tensor conditioning_clip(const at::Tensor& seen, int64_t num_frames) const override;

 protected:
  /// What stands behind the seen frames in the reference's clip, [B,3,1,H,W].
  virtual at::Tensor filler(const at::Tensor& seen) const;

  std::shared_ptr<const Denoiser> denoiser_;
  CodecSpec codec_;
  std::string class_name_;
  bool takes_video_;
  std::optional<CosmosActions> actions_;  // of a network that takes some
};

}  // namespace orrery::models
