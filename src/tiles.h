#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "orrery/tokenizer.h"

namespace orrery {

/// How a latent grid is cut into overlapping tiles that are coded alone, and how their results become one picture again:
/// each counts with a weight that falls towards an edge it shares, so neighbours fade into each other.
class Tiles {
 public:
  /// The grid is h x w latents. Without options.tile there is one tile. Throws Error(kArgument) on sizes that are no
  /// multiples of the stride, or an overlap as large as the tile.
  Tiles(int64_t h, int64_t w, const CodeOptions& options, const CodecSpec& spec);

  size_t count() const { return tiles_.size(); }
  /// Tile `index` of a tensor [...,H,W] that has `scale` elements on each side of a latent.
  at::Tensor cut(const at::Tensor& whole, size_t index, int64_t scale) const;
  /// One tensor of the tiles' results, each [...,H,W] with `scale` elements on each side of a latent.
  at::Tensor blend(const std::vector<at::Tensor>& parts, int64_t scale) const;

 private:
  struct Tile {
    int64_t top, left, height, width;
  };
  at::Tensor weight(const Tile& tile, int64_t scale) const;

  int64_t h_, w_, overlap_ = 0;  // in latents, as all sizes here
  std::vector<Tile> tiles_;
};

}  // namespace orrery
