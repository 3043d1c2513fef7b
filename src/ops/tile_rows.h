#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tile_rows.h"

namespace orrery::ops {

/// Whether bfloat16 holds every number of `weight`, as TileWeight needs it.
bool fits_tile_rows(const at::Tensor& weight);
/// Whether small products with it go through matrix tiles here unless they are told otherwise.
bool uses_tile_rows(const at::Tensor& weight);

/// The weights of a small product or convolution for matrix tiles, packed once; by the processor's where it has them, else
/// by their emulation (slow: for tests).
class TileWeight {
 public:
  TileWeight() = default;
  /// weight float32 [out,in,taps], bias [out].
  TileWeight(const at::Tensor& weight, const at::Tensor& bias);

  bool empty() const { return columns_ == 0; }
  /// Rows of `in` numbers from each tap on: gathered, split and multiplied. As PackedProduct's.
  void gather(const float* in, std::span<const int64_t> rows, std::span<const int64_t> taps, float* out,
              std::span<const int64_t> out_rows, kernels::Then then, const float* gate) const;
  /// The square picture [side,side,in] with zeros around it, taps being 3x3; or, where `affine` is given, silu of what
  /// that makes of it. `out_rows` as padded_rows() says.
  void convolve(const float* picture, int64_t side, float* out, std::span<const int64_t> out_rows, kernels::Then then,
                const kernels::Affine* affine = nullptr) const;

 private:
  kernels::TileRows product(float* out, std::span<const int64_t> out_rows, std::span<const int64_t> taps,
                            int64_t depth) const;

  at::Tensor packed_, bias_;
  int64_t depth_ = 0, columns_ = 0, taps_ = 0;
};

/// Where the pixels of a padded picture [side,side+2] begin in an output [side,side,out], or −1; but for the last two.
std::vector<int64_t> padded_rows(int64_t side, int64_t out);

}  // namespace orrery::ops
