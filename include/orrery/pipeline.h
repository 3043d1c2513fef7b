#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orrery/diffusion.h"
#include "orrery/export.h"
#include "orrery/generate_options.h"
#include "orrery/load.h"
#include "orrery/progress.h"
#include "orrery/tokenizer.h"
#include "orrery/video.h"

namespace orrery {

/// Seconds that each stage took; `denoise` is the dynamics, whatever its kind.
struct GenerationTimings {
  double text = 0, encode = 0, denoise = 0, decode = 0;
};

/// A future.
struct Generated {
  /// float [1,C,t,h,w]: the final sample in the reference pipeline's own space. Worlds of tokens: int64 [1,t,h,w], the
  /// tokenizer's indices, those of the frames that were seen first.
  at::Tensor latents;
  Latents normalized;  ///< the same in dynamics space, as Tokenizer::decode takes it
  at::Tensor video;    ///< float [1,3,T,H,W] in [-1,1]; undefined after generate_latents() and where a sink took the frames
  double fps = 24;
  std::vector<Latents> windows;  ///< `normalized` of every window; `latents` and `normalized` are the last one's
  int64_t overlap = 0;           ///< frames at the start of a later window that the one before has already
  int64_t num_frames = 0;        ///< of the whole future
  int64_t new_tokens = 0;        ///< worlds of tokens: how many `timings.denoise` made
  int64_t passes = 0;            ///< with a step cache: looks of the networks
  int64_t shortened = 0;         ///< those of them that left out all blocks but the first
  GenerationTimings timings;
};

/// What a world of tokens is loaded with besides.
struct TokenWorldOptions {
  std::string video_tokenizer;    ///< where it lies, if neither in the model's folder nor beside it
  std::string diffusion_decoder;  ///< sharpens what generate() makes; empty: the tokenizer's own decoder makes the frames
};

/// What a model can go on from.
struct InputRules {
  bool fixed_size = false;       ///< frames of the default height and width and of no other
  int64_t most_seen_frames = 0;  ///< of a longer video, only the last so many are looked at; 0: no limit
};

/// What a prediction of memory is asked for.
struct MemoryQuestion {
  int64_t frames = 0, height = 0, width = 0;  ///< of the future; 0: those that the model was released with
  WeightForm weights = WeightForm::kStored;   ///< of the networks that step
  std::string video_tokenizer;                ///< see TokenWorldOptions
};

/// Memory that a model needs, by stage, in bytes.
struct MemoryNeed {
  int64_t frames = 0, height = 0, width = 0;  ///< of the future it is told for
  int64_t text = 0, denoise = 0, decode = 0;  ///< weights and what the work holds beside them; `denoise` is the dynamics
  int64_t peak() const { return std::max({text, denoise, decode}); }
};

/// Predicts it from headers, without loading anything: the weights of each stage in the form that is asked for, the keys and
/// values that are remembered, and the largest tensors (0 beside the weights where a family does not tell). Throws as
/// from_pretrained does.
ORRERY_API MemoryNeed predict_memory(const ModelDescription& model, const MemoryQuestion& asked = {});

namespace pipeline {
class Generator;  ///< one way of making futures; not for callers
}

/// A published world model, loaded: const, shareable between threads. Parts that only a prompt needs are loaded when one
/// comes and released before the network runs.
class ORRERY_API WorldModelPipeline {
 public:
  /// A folder with model_index.json, a network of tokens with its video tokenizer in its folder or beside it, or a hub id
  /// `org/name[@revision][:subfolder]`. Throws Error naming a part that is missing, a class that is not known (listing the
  /// known), or a tensor that is missing or misshapen. `max_memory` in bytes of the device, 0 for any: where the weights of
  /// a diffusion pipeline take more than half of it, the largest networks hold one block at a time. On the processor a block
  /// gives its weights back when it is done and reads them from the disk again for the next look; to a device they go block
  /// by block from the map of their file. Throws Error(kArgument) where the device cannot hold even that.
  static WorldModelPipeline from_pretrained(const std::string& path, const LoadOptions& options = {}, int64_t max_memory = 0,
                                            const TokenWorldOptions& tokens = {});
  ~WorldModelPipeline();
  WorldModelPipeline(WorldModelPipeline&&) noexcept;
  WorldModelPipeline& operator=(WorldModelPipeline&&) noexcept;

  /// Class of the pipeline, e.g. "WanPipeline".
  const std::string& class_name() const;
  /// Numbers the checkpoint was released with: the row of this name in the table of presets, or the first that fits.
  GenerationDefaults defaults(Compat compat = Compat::kAsPublished, const std::string& preset = {}) const;
  /// Of pictures and videos to go on from.
  InputRules input_rules() const;
  /// The tokenizer's networks; Tokenizer(pipeline.autoencoder()) codes videos with them.
  std::shared_ptr<const Autoencoder> autoencoder() const;

  /// A prompt as generate() embeds it, float [1,L,D], for those who go on with it. Throws Error(kArgument) where the
  /// checkpoint has no text encoder.
  at::Tensor embed_prompt(const std::string& prompt, const WorkOptions& work = {}) const;
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
  explicit WorldModelPipeline(std::unique_ptr<const pipeline::Generator> generator);
  std::unique_ptr<const pipeline::Generator> generator_;
};

}  // namespace orrery
