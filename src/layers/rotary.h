#pragma once

#include <ATen/core/Tensor.h>

namespace orrery::layers {

/// Which two channels of a head turn together.
enum class RotaryPairs {
  kHalves,     ///< i and i + D/2 (rotate-half: Cosmos, Qwen, Llama as Hugging Face keeps it)
  kNeighbours  ///< 2i and 2i + 1 (Wan, original Llama)
};

/// Angles of one sequence, as cosines and sines. Shape [N, D/2] each, float32.
struct Rotary {
  at::Tensor cos;
  at::Tensor sin;

  /// Tables are computed by the processor, in the reference's precision, and used where the weights are.
  Rotary to(c10::Device device) const;
};

/// Turns heads [B,N,heads,D] by the angles of their tokens.
at::Tensor rotate(const at::Tensor& heads, const Rotary& rotary, RotaryPairs pairs);

/// Queries or keys [B,N,heads,D] of a transformer: RMSNorm over the heads of a token together (weight [heads·D]) or over each
/// (weight [D]; undefined: by its length alone), then rotate().
at::Tensor norm_and_rotate(const at::Tensor& heads, const at::Tensor& weight, bool over_all_heads, double eps,
                           const Rotary& rotary, RotaryPairs pairs);

/// Angles of a grid from those of its axes: axis tables [t, a], [h, b], [w, c] → [t·h·w, a + b + c], t outermost.
at::Tensor grid_angles(const at::Tensor& over_t, const at::Tensor& over_h, const at::Tensor& over_w);

}  // namespace orrery::layers
