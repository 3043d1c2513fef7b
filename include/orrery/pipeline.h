#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orrery/diffusion.h"
#include "orrery/export.h"
#include "orrery/guardrail.h"
#include "orrery/load.h"
#include "orrery/progress.h"
#include "orrery/tokenizer.h"
#include "orrery/video.h"

namespace orrery {

/// Takes decoded frames float [1,3,T,H,W] in [-1,1], in order, a chunk at a time.
using FrameSink = std::function<void(const at::Tensor& frames)>;

/// How a generation stands after a step.
struct StepReport {
  int64_t step = 0, steps = 0;      ///< this one, from 0, of so many
  int64_t window = 0, windows = 0;  ///< of a long future
  at::Tensor sample;                ///< float [1,C,t,h,w], in the reference pipeline's own space
  Latents predicted;                ///< what the sample is on its way to, in dynamics space (for previews)
};

/// See below.
struct Generated;

/// What a future is made from. Everything may be left out; the checkpoint's own numbers are used then.
struct GenerateOptions {
  std::string prompt;
  std::optional<std::string> negative_prompt;
  at::Tensor prompt_embeds;           ///< float [1,L,D]; replaces `prompt`
  at::Tensor negative_prompt_embeds;  ///< float [1,L,D]
  at::Tensor prompt_mask;             ///< bool [1,L], may be undefined
  at::Tensor negative_prompt_mask;

  at::Tensor seen;                ///< float [1,3,K,H,W] in [-1,1]: a picture (K = 1) or a video to go on from
  std::vector<Control> controls;  ///< `video` in pixels float [1,3,T,H,W] in [-1,1]; what steers the future
  at::Tensor last_image;          ///< float [1,3,1,H,W]: the picture to arrive at (first-and-last-frame models)
  /// The same two pictures uint8 [1,H',W',3] before they were brought to size, for checkpoints with a picture encoder;
  /// without them it looks at `seen` and `last_image`.
  Video picture, last_picture;
  std::optional<int64_t> condition_frames;  ///< use the last so many frames of `seen`; else all

  std::optional<int64_t> num_frames, height, width, steps;  ///< frames of the future, its size in pixels, denoising steps
  std::optional<double> fps, guidance_scale, flow_shift;    ///< frames a second; 1 is no guidance; the schedule's shift
  std::optional<double> guidance_scale_2;                   ///< of the network for low noise, where there are two
  uint64_t seed = 0;                                        ///< of the noise
  at::Tensor noise;  ///< float [1,C,t,h,w], unit variance: replaces the random generator
  /// float [n,C,t,h,w], unit variance: what is added to known frames at the n-th look, where a model adds some (Cosmos
  /// Predict1). None is added when only `noise` is given.
  at::Tensor condition_noise;

  Compat compat = Compat::kAsPublished;             ///< whose way the checkpoint is run
  std::string preset;                               ///< numbers of this released model, by name; empty: the first that fits
  GuidanceForm guidance_form = GuidanceForm::kOwn;  ///< how guidance mixes
  std::optional<bool> fps_modulation;               ///< whether the network is told the frame rate

  std::optional<int64_t>
      window_frames;  ///< imagined at once; longer futures go on window by window; else as many as released
  std::optional<int64_t> overlap_frames;  ///< a later window goes on from so many frames; else what suits the model

  Guardrails guardrails;                           ///< none unless set
  std::function<void(const StepReport&)> on_step;  ///< called after each step; may be empty
  std::function<void(const Generated&)>
      on_latents;  ///< called when a window's latents are ready to be decoded; may be empty
  WorkOptions work;
};

/// Seconds that each stage took.
struct GenerationTimings {
  double text = 0, encode = 0, denoise = 0, decode = 0;
};

/// A future.
struct Generated {
  at::Tensor latents;  ///< float [1,C,t,h,w]: the final sample in the reference pipeline's own space
  Latents normalized;  ///< the same in dynamics space, as Tokenizer::decode takes it
  at::Tensor video;    ///< float [1,3,T,H,W] in [-1,1]; undefined after generate_latents() and where a sink took the frames
  double fps = 24;
  std::vector<Latents> windows;  ///< `normalized` of every window; `latents` and `normalized` are the last one's
  int64_t overlap = 0;           ///< frames at the start of a later window that the one before has already
  int64_t num_frames = 0;        ///< of the whole future
  GenerationTimings timings;
};

/// Memory that a pipeline needs, by stage, in bytes.
struct MemoryNeed {
  int64_t frames = 0, height = 0, width = 0;  ///< of the future it is told for
  int64_t text = 0, denoise = 0, decode = 0;  ///< weights as stored and what the work holds beside them
  int64_t peak() const { return std::max({text, denoise, decode}); }
};

/// Predicts it from headers, without loading anything: the weights of each stage, and its largest tensors (0 beside the
/// weights where a family does not tell). Zero sizes: those the model was released with. Throws as from_pretrained does.
ORRERY_API MemoryNeed predict_memory(const ModelDescription& model, int64_t frames = 0, int64_t height = 0,
                                     int64_t width = 0);

/// A published world model, loaded: const, shareable between threads. Parts that only a prompt needs are loaded when one
/// comes and released before the network runs.
class ORRERY_API WorldModelPipeline {
 public:
  /// A folder with model_index.json, or a hub id `org/name[@revision][:subfolder]`. Throws Error naming a part that is
  /// missing, a class that is not known (listing the known), or a tensor that is missing or misshapen. `max_memory` in
  /// bytes, 0 for any: a network whose weights take more than half of it gives each block's back when the block is done, and
  /// reads them from the disk again for the next look.
  static WorldModelPipeline from_pretrained(const std::string& path, const LoadOptions& options = {},
                                            int64_t max_memory = 0);
  ~WorldModelPipeline();
  WorldModelPipeline(WorldModelPipeline&&) noexcept;
  WorldModelPipeline& operator=(WorldModelPipeline&&) noexcept;

  /// Class of the pipeline, e.g. "WanPipeline".
  const std::string& class_name() const;
  /// Numbers the checkpoint was released with: the row of this name in the table of presets, or the first that fits.
  GenerationDefaults defaults(Compat compat = Compat::kAsPublished, const std::string& preset = {}) const;
  /// The tokenizer's networks; Tokenizer(pipeline.autoencoder()) codes videos with them.
  std::shared_ptr<const Autoencoder> autoencoder() const;

  /// Everything but decoding, in one window: the final latents. Throws Error(kArgument) on sizes or conditions that do not
  /// fit (saying the nearest that do), Error(kWeights) naming the step at which latents stop being finite,
  /// Error(kCancelled).
  Generated generate_latents(const GenerateOptions& options) const;
  /// Latents to pixels float [1,3,T,H,W].
  at::Tensor decode(const Generated& generated, const WorkOptions& work = {}) const;
  /// As decode, a chunk at a time: memory does not grow with the clip.
  void decode(const Generated& generated, const FrameSink& sink, const WorkOptions& work = {}) const;
  /// Latents and pixels. A model that can go on from frames imagines a future longer than a window in several, each going on
  /// from the last frames of the one before; `noise` is then [windows,C,t,h,w].
  Generated generate(const GenerateOptions& options) const;
  /// As generate, with the frames handed on as they are decoded.
  Generated generate(const GenerateOptions& options, const FrameSink& sink) const;

 private:
  struct Impl;
  explicit WorldModelPipeline(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace orrery
