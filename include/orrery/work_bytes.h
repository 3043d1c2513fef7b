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
  /// decoding them a chunk at a time, of a network of tokens for imagining a clip of them [B,t,h,w], with the keys and
  /// values that it remembers. An estimate from the shapes of the largest tensors.
  virtual int64_t work_bytes(at::IntArrayRef shape) const = 0;
};

}  // namespace orrery
