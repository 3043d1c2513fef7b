#pragma once

#include <ATen/core/Tensor.h>

namespace orrery {

/// What dynamics works on, by modality. Most models set `video` only.
struct Latents {
  at::Tensor video;   ///< float [B,C,t,h,w] in dynamics space (normalised), or int64 [B,t,h,w] tokens
  at::Tensor action;  ///< float [B,T,A], where a model denoises actions too
  at::Tensor sound;   ///< float [B,C,S], where a model makes sound
  double fps = 0;     ///< of the pixels these latents stand for; 0 for a picture
};

}  // namespace orrery
