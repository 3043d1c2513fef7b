#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "ops/small_network.h"
#include "ops/tile_rows.h"
#include "ops/workspace.h"

namespace orrery::ops {

/// A 3x3 convolution of one square picture, zeros around it, channels last, for small networks: weights packed once, one
/// thread. Through matrix tiles where the processor has them and bfloat16 holds every weight; else by Winograd's filtering
/// where picture and channels are large enough for it (the weights then take four times their room, as float32), else tap by
/// tap.
class SmallConvolution {
 public:
  enum class Form { kFaster, kDirect, kWinograd, kTiles };

  SmallConvolution() = default;
  /// weight float [out,in,3,3], bias [out]; pictures of side x side pixels.
  SmallConvolution(const at::Tensor& weight, const at::Tensor& bias, int64_t side, Form form = Form::kFaster);

  /// How many pixels of zeros the picture needs around it: none or one.
  int64_t border() const { return direct_.columns() > 0 ? 1 : 0; }
  /// Room for a picture; its border, if it has one, is zeros.
  float* picture(Workspace& memory) const;
  /// Where pixel (y, x) begins in such a picture.
  int64_t at(int64_t y, int64_t x) const { return ((y + border()) * (side_ + 2 * border()) + x + border()) * depth(); }

  /// picture [side + 2·border, side + 2·border, in] → out [side, side, out], stored or added (not gated).
  void operator()(const float* picture, float* out, Then then = Then::kStore) const;

  /// The same of silu of `x` [side,side,in], which goes through `affine` before; x may be `out`.
  void after_silu(const float* x, float* out, Then then = Then::kStore, const Affine& affine = {}) const;

  int64_t depth() const { return in_; }
  int64_t columns() const { return out_; }
  int64_t side() const { return side_; }

 private:
  int64_t side_ = 0, in_ = 0, out_ = 0;
  PackedProduct direct_;
  std::vector<int64_t> plain_, padded_, taps_;  // where pixels begin in `out` and in `picture`, and what the taps add
  at::Tensor transformed_, bias_;               // Winograd's
  TileWeight tiles_;                            // or these
};

}  // namespace orrery::ops
