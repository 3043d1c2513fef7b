#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "orrery/export.h"

namespace orrery {

/// A component that can tell how much memory its work takes, without doing any.
class ORRERY_API TellsWorkBytes {
 public:
  virtual ~TellsWorkBytes();
  /// The most bytes beside the weights that one call holds: of a denoiser for latents [B,C,t,h,w], of an autoencoder for
  /// decoding them a chunk at a time. An estimate from the shapes of the largest tensors.
  virtual int64_t work_bytes(at::IntArrayRef latents) const = 0;
};

}  // namespace orrery
