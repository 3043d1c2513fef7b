#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "models/registry.h"
#include "orrery/pipeline.h"

namespace orrery::pipeline {

/// Tokens to pixels by diffusion: sharper than the tokenizer's own decoder, and a network of its own. Const.
class TokenSharpener {
 public:
  /// A folder with the network, aux_vars.pt (`context`: the embedding of a prompt that fits everything) and, in it or beside
  /// it, the continuous tokenizer of its latents. Throws as WorldModelPipeline::from_pretrained does.
  TokenSharpener(const std::string& path, const LoadOptions& options);

  /// What is sharpened; all of it lies where the network runs.
  struct Task {
    at::Tensor tokens;                          ///< int64 [1,t,h,w]
    int64_t frames = 0, height = 0, width = 0;  ///< that they stand for
    at::Tensor text;                            ///< float [1,L,D] of the prompt; undefined: the one that fits everything
    uint64_t seed = 0;                          ///< of the noise
    at::Tensor noise;                           ///< float [windows,C,t',h',w'], unit variance: in place of the generator
  };
  /// Frames float [1,3,T,H,W] in [-1,1]: windows of as many latent frames as the network was trained with, each fading into
  /// the next.
  at::Tensor sharpen(const Task& task, const WorkOptions& work = {}) const;

 private:
  std::shared_ptr<const Autoencoder> autoencoder_;
  std::unique_ptr<DiffusionRecipe> recipe_;
  Config scheduler_;
  at::Tensor generic_text_;  // float [1,L,D]
};

/// Clips float [1,3,T,H,W] one after another, each fading linearly into the next over `overlap` frames.
at::Tensor blended(const std::vector<at::Tensor>& clips, int64_t overlap);

}  // namespace orrery::pipeline
