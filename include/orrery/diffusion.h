#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orrery/autoencoder.h"
#include "orrery/component.h"
#include "orrery/conditions.h"
#include "orrery/config.h"
#include "orrery/export.h"
#include "orrery/text.h"

namespace orrery {

/// One row of a schedule: how noisy the sample is, and what the reference's scheduler calls that.
struct NoiseLevel {
  double sigma = 0;
  double time = 0;
};

/// What a diffusion run is made of.
struct DiffusionInputs {
  Conditions conditions;           ///< text, its mask, fps; `known` and `known_mask` are the recipe's to set
  at::Tensor negative_text;        ///< float [B,L,D]; undefined: no guidance
  at::Tensor negative_text_mask;   ///< bool [B,L], may be undefined
  double guidance_scale = 1;       ///< ≤ 1: no guidance
  std::vector<int64_t> shape;      ///< of the latents [B,C,t,h,w]
  at::Tensor history;              ///< float [B,C,t',h,w], normalised latents of the conditioning clip; undefined: none
  int64_t history_frames = 0;      ///< pixel frames of it that were really seen
  bool last_frame_known = false;   ///< the clip's last pixel frame was seen too (first-and-last-frame models)
};

/// One sampling run of one family: how a noisy sample is shown to the network, and what its answer means.
class ORRERY_API DiffusionRun {
 public:
  virtual ~DiffusionRun();
  /// dx/dσ at this level, guided. x float32 [B,C,t,h,w].
  virtual at::Tensor velocity(const at::Tensor& sample, const NoiseLevel& level) = 0;
  /// Puts known frames back where the reference does so at the end.
  virtual at::Tensor finish(at::Tensor sample) { return sample; }
};

/// Sizes and numbers with which a checkpoint was released.
struct GenerationDefaults {
  int64_t num_frames = 1, height = 0, width = 0, steps = 36;
  double guidance_scale = 7.0;
  double fps = 24;
  std::string negative_prompt;
};

/// Unit noise of the whole sample's shape [1,C,t,h,w]: draw 0 is what sampling starts from, draw k is for a sampler that
/// adds noise at its k-th step.
using NoiseDraws = std::function<at::Tensor(int64_t draw)>;
/// Told how many pieces of how many are done.
using PieceProgress = std::function<void(int64_t done, int64_t of)>;

/// What a diffusion family writes beside its denoiser: conditioning, preconditioning and guidance as its reference pipeline
/// does them. Const.
class ORRERY_API DiffusionRecipe {
 public:
  virtual ~DiffusionRecipe();
  virtual GenerationDefaults defaults() const = 0;
  /// Throws Error(kArgument) when a size, frame count or condition cannot be used, saying what can.
  virtual void check(int64_t num_frames, int64_t height, int64_t width, int64_t known_frames) const = 0;
  /// How many of `seen` frames the model goes on from when the caller does not say.
  virtual int64_t usable_frames(int64_t seen) const { return seen; }
  /// The pixels to encode as history: `seen` float [B,3,K,H,W] in [-1,1] → [B,3,K',H,W], padded as the reference pads.
  virtual at::Tensor conditioning_clip(const at::Tensor& seen, int64_t num_frames) const = 0;
  /// A prompt as the network takes it, float [1,L,D]: the reference's template, length and padding. `cut` tells how many tokens
  /// did not fit.
  virtual at::Tensor embed_prompt(const TextTokenizer& tokenizer, const Component& text_encoder, const std::string& prompt,
                                  int64_t& cut) const = 0;
  /// Pictures as the network takes them: `pixel_values` float [B,3,h,w] as the encoder takes them → float [B,L,D].
  virtual at::Tensor embed_pictures(const Component& image_encoder, const at::Tensor& pixel_values) const;
  /// Channels of the latents that are denoised.
  virtual int64_t latent_channels() const = 0;
  /// What unit noise is multiplied with to become the first sample.
  virtual double noise_scale() const { return 1; }
  /// The pipeline hands the scheduler a ramp of its own.
  virtual bool unit_ramp() const { return false; }
  /// The last step's target is σ_{n−1} once more in place of zero.
  virtual bool repeats_last_sigma() const { return false; }
  /// Final samples as normalised latents, ready for a Tokenizer.
  virtual at::Tensor to_codec(const at::Tensor& sample) const { return sample; }
  virtual std::unique_ptr<DiffusionRun> begin(const DiffusionInputs& inputs) const = 0;

  /// The future is made piece by piece, each from noise to its end, in place of all of it step by step along a scheduler.
  virtual bool makes_pieces() const { return false; }
  /// Then this is called in place of begin(): the final sample [1,C,t,h,w].
  virtual at::Tensor make_pieces(const DiffusionInputs&, const NoiseDraws&, const PieceProgress&) const { return {}; }
};

/// The loaded parts from which a recipe is built.
struct DiffusionParts {
  Config index;      ///< model_index.json
  Config scheduler;  ///< scheduler_config.json
  CodecSpec codec;
  std::map<std::string, std::shared_ptr<const Component>> components;  ///< "transformer", "transformer_2", …
};

}  // namespace orrery
