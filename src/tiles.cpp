#include "tiles.h"

#include <ATen/ATen.h>

#include "orrery/error.h"

namespace orrery {
namespace {

int64_t in_latents(int64_t pixels, int64_t stride, const char* name) {
  if (pixels >= stride && pixels % stride == 0) return pixels / stride;
  throw Error(ErrorKind::kArgument, {.place = name,
                                     .what = "does not fit this tokenizer",
                                     .expected = "a multiple of " + std::to_string(stride) + " pixels",
                                     .got = std::to_string(pixels)});
}

// Where tiles of `tile` begin along a side; the last one ends with the side.
std::vector<int64_t> begins(int64_t side, int64_t tile, int64_t overlap) {
  std::vector<int64_t> found;
  for (int64_t begin = 0; begin + tile < side; begin += tile - overlap) found.push_back(begin);
  found.push_back(std::max<int64_t>(0, side - tile));
  return found;
}

// 1 inside, falling linearly over `ramp` elements towards an edge that another tile overlaps; never 0.
at::Tensor ramp_weight(int64_t begin, int64_t length, int64_t side, int64_t ramp, int64_t scale) {
  const at::Tensor from_start = at::arange(length * scale, at::kFloat) + 0.5, from_end = from_start.flip(0);
  at::Tensor weight = at::ones({length * scale}, at::kFloat);
  const double width = static_cast<double>(ramp * scale);
  if (begin > 0) weight = at::minimum(weight, from_start / width);
  if (begin + length < side) weight = at::minimum(weight, from_end / width);
  return weight;
}

}  // namespace

Tiles::Tiles(int64_t h, int64_t w, const CodeOptions& options, const CodecSpec& spec) : h_(h), w_(w) {
  if (options.tile == 0) {
    tiles_.push_back({0, 0, h, w});
    return;
  }
  const int64_t side = in_latents(options.tile, spec.spatial_stride, "tile");
  overlap_ = options.tile_overlap ? in_latents(options.tile_overlap, spec.spatial_stride, "tile overlap") : side / 4;
  if (overlap_ >= side)
    throw Error(ErrorKind::kArgument, {.place = "tile overlap",
                                       .what = "leaves nothing of a tile",
                                       .expected = "less than " + std::to_string(options.tile)});
  const int64_t height = std::min(h, side), width = std::min(w, side);
  for (const int64_t top : begins(h, side, overlap_))
    for (const int64_t left : begins(w, side, overlap_)) tiles_.push_back({top, left, height, width});
}

at::Tensor Tiles::cut(const at::Tensor& whole, size_t index, int64_t scale) const {
  const Tile& tile = tiles_[index];
  return whole.narrow(-2, tile.top * scale, tile.height * scale).narrow(-1, tile.left * scale, tile.width * scale);
}

at::Tensor Tiles::weight(const Tile& tile, int64_t scale) const {
  const int64_t ramp = std::max<int64_t>(overlap_, 1);
  return ramp_weight(tile.top, tile.height, h_, ramp, scale).unsqueeze(1) *
         ramp_weight(tile.left, tile.width, w_, ramp, scale).unsqueeze(0);
}

at::Tensor Tiles::blend(const std::vector<at::Tensor>& parts, int64_t scale) const {
  if (parts.size() == 1) return parts.front();
  std::vector<int64_t> shape = parts.front().sizes().vec();
  shape[shape.size() - 2] = h_ * scale;
  shape[shape.size() - 1] = w_ * scale;
  const auto here = parts.front().options().dtype(at::kFloat);
  const at::Tensor sum = parts.front().new_zeros(shape), weights = at::zeros({h_ * scale, w_ * scale}, here);
  for (size_t i = 0; i < parts.size(); ++i) {
    const at::Tensor weight = this->weight(tiles_[i], scale).to(here);
    cut(sum, i, scale).add_(parts[i] * weight);
    cut(weights, i, scale).add_(weight);
  }
  return sum.div_(weights);
}

}  // namespace orrery
