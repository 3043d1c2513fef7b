#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace orrery::ops {

/// How patches are made.
struct PatchForm {
  int64_t pt = 1;     ///< frames of a patch
  int64_t ps = 2;     ///< pixels of its sides
  bool haar = false;  ///< the orthonormal Haar transform of 2x2 or 2x2x2 pixels instead of the pixels themselves
  int64_t lead =
      0;  ///< frames before a clip's first that it stands for too, less than pt; on the way back they are left out
};

/// [B,C,t·pt,h·ps,w·ps] → [B,K·C,t,h,w], K = pt·ps·ps, channel k·C + c (pixel unshuffle; Haar patching). float32, bfloat16
/// or float16, the pixels of a row side by side. Throws Error(kArgument) naming the operand. Without a lead.
at::Tensor patch(const at::Tensor& pixels, const PatchForm& form);
/// The way back, of a contiguous tensor.
at::Tensor unpatch(const at::Tensor& patches, const PatchForm& form);

/// The same between tensors that are there, for networks with a layout of their own: pixels [B,C,T,h·ps,w·ps], those of a
/// row side by side, T = t·pt − lead; patches a view [B,C,pt,ps,ps,t,h,w] of any strides.
void patch_into(const at::Tensor& pixels, const at::Tensor& patches, const PatchForm& form);
void unpatch_into(const at::Tensor& patches, const at::Tensor& pixels, const PatchForm& form);

}  // namespace orrery::ops
