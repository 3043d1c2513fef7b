#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "orrery/diffusion.h"
#include "orrery/guardrail.h"
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
  at::Tensor actions;             ///< float [T,A]: what is done before each frame behind the first, in the data set's units
  at::Tensor last_image;          ///< float [1,3,1,H,W]: the picture to arrive at (first-and-last-frame models)
  /// The same two pictures uint8 [1,H',W',3] before they were brought to size, for checkpoints with a picture encoder;
  /// without them it looks at `seen` and `last_image`.
  Video picture, last_picture;
  std::optional<int64_t> condition_frames;  ///< use the last so many frames of `seen`; else all

  std::optional<int64_t> num_frames, height, width, steps;  ///< frames of the future, its size in pixels, looks at it
  std::optional<double> fps, guidance_scale, flow_shift;    ///< frames a second; 1 is no guidance; the schedule's shift
  std::optional<double> guidance_scale_2;                   ///< of the network for low noise, where there are two
  std::optional<double> step_cache;                         ///< lossy: the threshold of a StepCache, 0 or more; else none
  uint64_t seed = 0;                                        ///< of the noise
  /// float [1,C,t,h,w], unit variance: replaces the random generator. Worlds of tokens that guess a frame at a time: the
  /// numbers [frames, steps − 1, h·w] by which they choose the places that settle.
  at::Tensor noise;
  /// float [n,C,t,h,w], unit variance: what is added to known frames at the n-th look, where a model adds some (Cosmos
  /// Predict1). None is added when only `noise` is given.
  at::Tensor condition_noise;

  // Worlds of tokens, which are drawn one after another (see TokenSampling) or a frame at a time (see FrameSampling).
  std::optional<double> temperature, top_p;  ///< else those that the original's examples are made with
  std::optional<int64_t> top_k;
  bool greedy = false;  ///< always the most likely token

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

}  // namespace orrery
