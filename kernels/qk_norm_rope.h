#pragma once

#include <cstdint>

#include "kernels/common/numbers.h"

namespace orrery::kernels {

/// Queries or keys on their way from the projection to attention: RMSNorm over a head or over all heads of a token, rotation
/// by the angles of the token, and the layout that attention wants; one pass, computed in float32.
struct QkNormRope {
  Number type = Number::kFloat32;  ///< of x and out: float32, bfloat16 or float16
  bool over_all_heads = false;     ///< the norm runs over heads · width (Wan), else over one head (Cosmos)
  bool neighbours = false;         ///< channels 2i and 2i + 1 turn together, else i and i + width / 2
  float epsilon = 1e-6f;
  int64_t batch = 0, tokens = 0, heads = 0, width = 0;  ///< width is a multiple of 4
  const void* x = nullptr;                              ///< [batch, tokens, heads, width], heads and width side by side
  int64_t x_batch = 0, x_token = 0;                     ///< strides in elements, even
  void* out = nullptr;
  int64_t out_batch = 0, out_token = 0, out_head = 0;
  const float* weight = nullptr;  ///< [width], or [heads, width] where the norm runs over all heads; null: no norm
  const float* cos = nullptr;     ///< [tokens, width / 2]; null: no rotation
  const float* sin = nullptr;
};

/// Tokens [begin, end) of batch · tokens on the CPU.
void qk_norm_rope_cpu(const QkNormRope& p, int64_t begin, int64_t end);

}  // namespace orrery::kernels

/// On the GPU; the CUDA error, 0 if there is none.
extern "C" int orrery_cuda_qk_norm_rope(const orrery::kernels::QkNormRope* p, void* stream);
