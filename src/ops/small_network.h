#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "kernels/head_norm.h"
#include "kernels/small_network.h"

namespace orrery::ops {

using kernels::attend;
using kernels::gelu_tanh;
using kernels::group_norm_silu;
using kernels::modulated_norm;
using kernels::NormedPicture;
using kernels::silu;
using kernels::Then;

/// A linear layer or a convolution for small networks: weights packed once, float buffers in and out, one thread. Rows of a
/// result do not depend on how many are asked for, so a batch equals its members to the bit.
class PackedProduct {
 public:
  PackedProduct() = default;
  /// weight float [out,in] or [out,in,h,w], bias [out]. Weights that float16 holds exactly are kept as float16.
  PackedProduct(const at::Tensor& weight, const at::Tensor& bias);

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
  int64_t depth_ = 0, columns_ = 0, taps_ = 1;
};

}  // namespace orrery::ops
