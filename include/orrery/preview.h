#pragma once

#include <ATen/core/Tensor.h>

#include "orrery/autoencoder.h"
#include "orrery/export.h"
#include "orrery/latents.h"
#include "orrery/video.h"

namespace orrery {

/// A quick look at latents: the linear map from a latent to the colour of its patch that fits this tokenizer's own decoder
/// best. Fitted once, on smooth random latents of one frame; a look is then one small product.
class ORRERY_API LatentPreview {
 public:
  /// Throws Error(kUnsupported) for a tokenizer of discrete codes or without a decoder.
  explicit LatentPreview(const Autoencoder& autoencoder);

  /// One frame a latent frame, one pixel a latent: float [1,C,t,h,w] in dynamics space → uint8 [t,h,w,3] frames at the rate
  /// of `latents` divided by the temporal stride.
  Video operator()(const Latents& latents) const;

 private:
  at::Tensor map_;  // float [C + 1, 3]; the last row is the offset
  int64_t stride_;
};

}  // namespace orrery
