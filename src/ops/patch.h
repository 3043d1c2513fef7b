#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace orrery::ops {

/// How big patches are, and whether they are transformed.
struct PatchForm {
  int64_t pt = 1;     ///< frames of a patch
  int64_t ps = 2;     ///< pixels of its sides
  bool haar = false;  ///< the orthonormal Haar transform of 2x2 or 2x2x2 pixels instead of the pixels themselves
};

/// [B,C,t·pt,h·ps,w·ps] → [B,K·C,t,h,w], K = pt·ps·ps, channel k·C + c (pixel unshuffle; Haar patching). Contiguous float32,
/// bfloat16 or float16. Throws Error(kArgument) naming the operand.
at::Tensor patch(const at::Tensor& pixels, const PatchForm& form);
/// The way back.
at::Tensor unpatch(const at::Tensor& patches, const PatchForm& form);

}  // namespace orrery::ops
