#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "kernels/head_norm.h"
#include "kernels/small_network.h"
#include "ops/tile_rows.h"

namespace orrery::ops {

using kernels::Affine;
using kernels::attend;
using kernels::gelu_tanh;
using kernels::group_norm;
using kernels::GroupNorm;
using kernels::modulated_norm;
using kernels::padded_keys;
using kernels::self_attend;
using kernels::silu;
using kernels::Then;

/// A linear layer or a convolution for small networks: weights packed once, float buffers in and out, one thread. Rows of a
/// result do not depend on how many are asked for, so a batch equals its members to the bit.
class PackedProduct {
 public:
  /// kTiles: matrix tiles, which take 16 rows at once; kVectors: for a row or two, whose time goes into reading the weights.
  enum class Form { kFaster, kVectors, kTiles };

  PackedProduct() = default;
  /// weight float [out,in] or [out,in,h,w], bias [out]. Vectors keep weights that float16 holds exactly as float16.
  PackedProduct(const at::Tensor& weight, const at::Tensor& bias, Form form = Form::kFaster);

  /// What kernels::RowProduct says: `rows` and `out_rows` where each row begins in `in` and `out`, `taps` what is added to
  /// it for each place of the kernel.
  void operator()(const float* in, std::span<const int64_t> rows, std::span<const int64_t> taps, float* out,
                  std::span<const int64_t> out_rows, Then then = Then::kStore, const float* gate = nullptr) const;
  /// Rows one after the other: in [count,in] → out [count,out].
  void operator()(const float* in, int64_t count, float* out, Then then = Then::kStore, const float* gate = nullptr) const;

  int64_t depth() const { return depth_; }
  int64_t columns() const { return columns_; }

 private:
  at::Tensor packed_;  // [blocks, taps, depth, kColumns], float or float16
  at::Tensor bias_;    // [blocks · kColumns]
  TileWeight tiles_;   // or these
  int64_t depth_ = 0, columns_ = 0, taps_ = 1;
};

}  // namespace orrery::ops
