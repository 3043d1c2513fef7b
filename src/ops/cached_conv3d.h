#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace orrery::ops {

/// A convolution over time and space that sees only the past.
struct CachedConv3dForm {
  int64_t stride_t = 1, stride_s = 1;
  int64_t past = -1;       ///< frames before the first of x that the first output sees; −1: kernel_t − stride_t
  int64_t upsample = 1;    ///< 2: each pixel of x stands for a square of four (nearest), which is not made in memory
  bool replicate = false;  ///< before the cache is the first frame there is, else zeros
};

/// conv3d of [cache | x] along time, both [B,T,H,W,in] and contiguous, read where they lie (cache may be undefined), with
/// zeros around the picture so that stride 1 keeps its size (stride 2 halves it, padded below and right). weight is
/// [out,kernel_t,kernel_s,kernel_s,in]; bias float32 [out] or undefined; residual [B,t,h,w,out] or undefined is added.
/// With `gamma` float32 [in], x and cache pass a fused silu(l2_rms_norm(·, gamma)) on their way in.
/// bfloat16 and float16 (on the CPU float32 too), sums in float32; on the GPU `in` is a multiple of 8. Returns
/// [B,t,h,w,out]. Throws Error(kArgument) naming the operand.
at::Tensor cached_conv3d(const at::Tensor& x, const at::Tensor& cache, const at::Tensor& weight, const at::Tensor& bias,
                         const at::Tensor& residual, const at::Tensor& gamma, const CachedConv3dForm& form);

}  // namespace orrery::ops
