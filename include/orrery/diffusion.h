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
#include "orrery/step_cache.h"
#include "orrery/text.h"

namespace orrery {

struct ActionSpace;  ///< orrery/action_space.h

/// One row of a schedule: how noisy the sample is, and what the reference's scheduler calls that.
struct NoiseLevel {
  double sigma = 0;
  double time = 0;
};

/// Whose way of running a checkpoint is followed where the two differ: solver, schedule, sizes, guidance, frame-rate
/// modulation.
enum class Compat {
  kAsPublished,  ///< a folder in diffusers layout as diffusers runs it, an original checkpoint as its own repository
  kDiffusers,
  kOriginal,
};

/// How guidance mixes the answer to the prompt, c, with that to the negative prompt, u; g is the scale.
enum class GuidanceForm {
  kOwn,           ///< as the model's reference mixes
  kFromPrompt,    ///< c + g (c − u)
  kFromNegative,  ///< u + g (c − u)
};

/// c and u mixed; `form` must not be kOwn.
ORRERY_API at::Tensor guide(const at::Tensor& c, const at::Tensor& u, double scale, GuidanceForm form);

/// Throws Error(kArgument) where a side is not a multiple of `unit` pixels, naming the nearest sizes that are.
ORRERY_API void check_multiple(int64_t height, int64_t width, int64_t unit);

/// What a diffusion run is made of.
struct DiffusionInputs {
  at::Device device = at::kCPU;   ///< where all of it lies, and what a recipe makes for it
  Conditions conditions;          ///< text, its mask, fps; `known` and `known_mask` are the recipe's to set
  at::Tensor negative_text;       ///< float [B,L,D]; undefined: no guidance
  at::Tensor negative_text_mask;  ///< bool [B,L], may be undefined
  bool guided = false;            ///< the negative prompt counts
  double guidance_scale = 1;
  double guidance_scale_2 = 1;                             ///< of the network for low noise, where there are two
  GuidanceForm guidance_form = GuidanceForm::kFromPrompt;  ///< never kOwn
  std::optional<bool> fps_modulation;  ///< tell the network the frame rate; without it, as the reference does
  bool original = false;               ///< run as the original repository, else as diffusers
  Config scheduler;                    ///< what samples: the preset's, else the folder's
  std::vector<int64_t> shape;          ///< of the latents [B,C,t,h,w]
  at::Tensor history;                  ///< float [B,C,t',h,w], normalised latents of the conditioning clip; undefined: none
  int64_t history_frames = 0;          ///< pixel frames of it that were really seen
  bool last_frame_known = false;       ///< the clip's last pixel frame was seen too (first-and-last-frame models)
  /// Noise for known frames, float [B,C,t,h,w], at the n-th time that a model asks for some; empty: none is added.
  std::function<at::Tensor(int64_t n)> condition_noise;
  std::shared_ptr<StepCacheRun> step_cache;  ///< for Denoiser::prepare_pass(); null: every look runs in full

  /// Of the float32 tensors that a recipe makes.
  at::TensorOptions options() const { return at::TensorOptions(device).dtype(at::kFloat); }
};

/// The conditions with the negative prompt in the place of the prompt. Throws Error(kArgument) where there is none.
ORRERY_API Conditions negative_conditions(const DiffusionInputs& inputs);

/// One sampling run of one family: how a noisy sample is shown to the network, and what its answer means.
class ORRERY_API DiffusionRun {
 public:
  virtual ~DiffusionRun();
  /// The sample as the reference puts it together before it looks at it.
  virtual at::Tensor compose(at::Tensor sample, const NoiseLevel&) { return sample; }
  /// dx/dσ at this level, guided. x float32 [B,C,t,h,w].
  virtual at::Tensor velocity(const at::Tensor& sample, const NoiseLevel& level) = 0;
  /// Puts known frames back where the reference does so at the end.
  virtual at::Tensor finish(at::Tensor sample) { return sample; }
  /// Turns to the next window of the same future: same prompts and shape, other known frames. What was prepared for the
  /// prompts is kept.
  virtual void next_window(const DiffusionInputs& inputs) = 0;
};

/// Sizes and numbers with which a checkpoint was released.
struct GenerationDefaults {
  int64_t num_frames = 1, height = 0, width = 0, steps = 36;
  double guidance_scale = 7.0;
  double fps = 24;
  std::string negative_prompt;
  double guidance_scale_2 = 0;  ///< of the network for low noise, where there are two; 0: the same
  double flow_shift = 0;        ///< of the schedule; 0: what the scheduler's config says
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
  /// The key of its rows in the table of presets: the pipeline's class, with what tells its forms apart behind a '/'.
  virtual std::string form() const = 0;
  /// How the reference mixes.
  virtual GuidanceForm guidance_form() const = 0;
  /// Throws Error(kArgument) when a size, frame count or condition cannot be used, saying what can.
  virtual void check(int64_t num_frames, int64_t height, int64_t width, int64_t known_frames) const = 0;
  /// How many of `seen` frames the model goes on from when the caller does not say.
  virtual int64_t usable_frames(int64_t seen) const { return seen; }
  /// Whether it needs control videos.
  virtual bool takes_controls() const { return false; }
  /// What steers each frame behind the first; null: it takes no actions.
  virtual const ActionSpace* action_space() const { return nullptr; }
  /// Rows of it, float [T,A], as the network takes them: [1,T,A].
  virtual at::Tensor normalised_actions(const at::Tensor& rows) const { return rows; }
  /// What stands in the place of an empty prompt, float [1,L,D]; undefined: it is embedded like any other.
  virtual at::Tensor no_prompt() const { return {}; }
  /// How many frames a later window of a long future goes on from; 0: there can be no later window.
  virtual int64_t overlap_frames() const { return 0; }
  /// Frames [1,3,K,H,W] at the end of a window as the next one goes on from them.
  virtual at::Tensor handed_on(const at::Tensor& frames) const { return frames; }
  /// The pixels to encode as history: `seen` float [B,3,K,H,W] in [-1,1] → [B,3,K',H,W], padded as the reference pads.
  virtual at::Tensor conditioning_clip(const at::Tensor& seen, int64_t num_frames) const = 0;
  /// A prompt as the network takes it, float [1,L,D]: the reference's template, length and padding. `cut` tells how many
  /// tokens did not fit.
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
