#pragma once

#include <cstdint>

namespace orrery::kernels {

/// What queries and keys go through before they meet: an RMS norm and a turn by their tokens' angles.
/// Rows are tokens of `heads` · `dim` floats; `out` may be `x`.
struct HeadNorm {
  const float* x;
  float* out;
  int64_t heads, dim;
  const float* weight;  ///< [dim] where `per_head`, else [heads · dim]; null: no norm
  bool per_head;        ///< the mean of squares is taken over each head alone, else over all together
  float epsilon;
  const float* cos;  ///< [tokens, dim/2]; null: no turn
  const float* sin;
  int64_t tokens;   ///< of one sequence: row r is token r % tokens
  bool neighbours;  ///< channels 2i and 2i + 1 turn together, else i and i + dim/2
};

/// Rows [first, last).
void head_norm(const HeadNorm& norm, int64_t first, int64_t last);

/// x ← x · ½(1 + tanh(√(2/π) (x + 0.044715 x³))), `count` floats.
void gelu_tanh(float* x, int64_t count);

}  // namespace orrery::kernels
