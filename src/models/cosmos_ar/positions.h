#pragma once

#include <ATen/core/Tensor.h>

#include "models/cosmos_ar/config.h"

namespace orrery::models {

/// Rotary angles of every position a sequence can have, as cosines and sines [N, head_dim], float32.
struct ArRotary {
  at::Tensor cos, sin;
  bool neighbours = false;  ///< channels 2i and 2i + 1 turn together; else i and i + head_dim / 2

  /// The positions begin … begin + count.
  ArRotary slice(int64_t begin, int64_t count) const;
  /// Turns heads [B,N,heads,head_dim].
  at::Tensor operator()(const at::Tensor& heads) const;
};

/// The table of a configuration: along the sequence (1D), or by frame, row and column of the grid (3D).
ArRotary rotary_table(const CosmosArConfig& config);

/// The absolute sine-cosine table [N, dim] of the grid, of values rounded to bfloat16 as the reference keeps them in every
/// precision; undefined where the configuration has none.
at::Tensor absolute_table(const CosmosArConfig& config);

}  // namespace orrery::models
