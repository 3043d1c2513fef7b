#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "orrery/diffusion.h"
#include "orrery/export.h"
#include "orrery/load.h"
#include "orrery/progress.h"
#include "orrery/tokenizer.h"
#include "orrery/video.h"

namespace orrery {

/// What a future is made from. Everything may be left out; the checkpoint's own numbers are used then.
struct GenerateOptions {
  std::string prompt;
  std::optional<std::string> negative_prompt;
  at::Tensor prompt_embeds;           ///< float [1,L,D]; replaces `prompt`
  at::Tensor negative_prompt_embeds;  ///< float [1,L,D]
  at::Tensor prompt_mask;             ///< bool [1,L], may be undefined
  at::Tensor negative_prompt_mask;

  at::Tensor seen;                          ///< float [1,3,K,H,W] in [-1,1]: a picture (K = 1) or a video to go on from
  at::Tensor last_image;                    ///< float [1,3,1,H,W]: the picture to arrive at (first-and-last-frame models)
  /// The same two pictures uint8 [1,H',W',3] before they were brought to size, for checkpoints with a picture encoder; without them
  /// it looks at `seen` and `last_image`.
  Video picture, last_picture;
  std::optional<int64_t> condition_frames;  ///< use the last so many frames of `seen`; else all

  std::optional<int64_t> num_frames, height, width, steps;   ///< frames of the future, its size in pixels, denoising steps
  std::optional<double> fps, guidance_scale, flow_shift;     ///< frames a second; 1 is no guidance; the schedule's shift
  uint64_t seed = 0;                                         ///< of the noise
  at::Tensor noise;  ///< float [1,C,t,h,w], unit variance: replaces the random generator

  /// Called after each step with its index and the sample [1,C,t,h,w] (for previews); may be empty.
  std::function<void(int64_t step, const at::Tensor& sample)> on_step;
  WorkOptions work;
};

/// Seconds that each stage took.
struct GenerationTimings {
  double text = 0, encode = 0, denoise = 0, decode = 0;
};

/// A future.
struct Generated {
  at::Tensor latents;   ///< float [1,C,t,h,w]: the final sample in the reference pipeline's own space
  Latents normalized;   ///< the same in dynamics space, as Tokenizer::decode takes it
  at::Tensor video;     ///< float [1,3,T,H,W] in [-1,1]; undefined after generate_latents()
  double fps = 24;
  GenerationTimings timings;
};

/// A published world model, loaded: const, shareable between threads. Parts that only a prompt needs are loaded when one comes
/// and released before the network runs.
class ORRERY_API WorldModelPipeline {
 public:
  /// A folder with model_index.json, or a hub id `org/name[@revision][:subfolder]`. Throws Error naming a part that is missing,
  /// a class that is not known (listing the known), or a tensor that is missing or misshapen.
  static WorldModelPipeline from_pretrained(const std::string& path, const LoadOptions& options = {});
  ~WorldModelPipeline();
  WorldModelPipeline(WorldModelPipeline&&) noexcept;
  WorldModelPipeline& operator=(WorldModelPipeline&&) noexcept;

  /// Class of the pipeline, e.g. "WanPipeline".
  const std::string& class_name() const;
  /// Numbers the checkpoint was released with.
  GenerationDefaults defaults() const;
  /// The tokenizer's networks; Tokenizer(pipeline.autoencoder()) codes videos with them.
  std::shared_ptr<const Autoencoder> autoencoder() const;

  /// Everything but decoding: the final latents. Throws Error(kArgument) on sizes or conditions that do not fit (saying the nearest
  /// that do), Error(kWeights) naming the step at which latents stop being finite, Error(kCancelled).
  Generated generate_latents(const GenerateOptions& options) const;
  /// Latents to pixels float [1,3,T,H,W].
  at::Tensor decode(const Generated& generated, const WorkOptions& work = {}) const;
  /// generate_latents() and decode().
  Generated generate(const GenerateOptions& options) const;

 private:
  struct Impl;
  explicit WorldModelPipeline(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace orrery
