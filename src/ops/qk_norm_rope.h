#pragma once

#include <ATen/core/Tensor.h>

namespace orrery::ops {

/// How queries and keys are normalised and turned.
struct QkNormRopeForm {
  bool over_all_heads =
      false;                ///< the norm runs over all heads of a token (weight [heads, D]), else over one head (weight [D])
  bool neighbours = false;  ///< channels 2i and 2i + 1 turn together, else i and i + D/2
  bool heads_first = false;  ///< the result is [B,heads,N,D], else [B,N,heads,D]
  double epsilon = 1e-6;
};

/// RMSNorm (undefined weight: none), then rotation (undefined cos and sin [N, D/2]: none) of heads [B,N,heads,D], float32,
/// bfloat16 or float16; heads and D lie side by side, B and N may be strided, as one part of a joint projection is. D is a
/// multiple of 4. Computed in float32. Throws Error(kArgument) naming the operand.
at::Tensor qk_norm_rope(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& cos, const at::Tensor& sin,
                        const QkNormRopeForm& form);

}  // namespace orrery::ops
