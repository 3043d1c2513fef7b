#include "ops/cached_conv3d.h"

#include <ATen/ATen.h>

#include "kernels/cached_conv3d.h"
#include "ops/dispatch.h"

namespace orrery::ops {
namespace {

// √C / ‖x‖ of each pixel of [B,T,H,W,C].
at::Tensor factors(const Operands& operands, const at::Tensor& x) {
  const at::Tensor factor = at::empty(x.sizes().slice(0, 4), x.options().dtype(at::kFloat));
  kernels::PixelFactor p;
  p.type = number_of(x.scalar_type());
  p.count = factor.numel();
  p.channels = x.size(4);
  p.x = x.const_data_ptr();
  p.factor = factor.mutable_data_ptr<float>();
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_pixel_factor", p);
  else
    spread(p.count, 256, [&](int64_t begin, int64_t end) { kernels::pixel_factor_cpu(p, begin, end); });
  return factor;
}

}  // namespace

at::Tensor cached_conv3d(const at::Tensor& x, const at::Tensor& cache, const at::Tensor& weight, const at::Tensor& bias,
                         const at::Tensor& residual, const at::Tensor& gamma, const CachedConv3dForm& form) {
  Operands operands("cached_conv3d");
  operands.first("x", x, {at::kFloat, at::kBFloat16, at::kHalf});
  const at::ScalarType type = x.scalar_type();
  operands.also("x", x, type, {-1, -1, -1, -1, -1}).contiguous("x", x);
  operands.require(!operands.on_gpu() || (type != at::kFloat && x.size(4) % 8 == 0), "x", "has no kernel on the GPU",
                   "bfloat16 or float16 with a multiple of 8 channels",
                   std::string(at::toString(type)) + " with " + std::to_string(x.size(4)));
  operands.aligned("x", x, 8);
  operands.also("weight", weight, type, {-1, -1, -1, -1, x.size(4)})
      .contiguous("weight", weight)
      .aligned("weight", weight, 8);
  operands.require(weight.size(2) == weight.size(3), "weight", "must have a square kernel", std::to_string(weight.size(2)),
                   std::to_string(weight.size(3)));
  operands.require(form.upsample == 1 || form.upsample == 2, "upsample", "is not a size there is a kernel for", "1 or 2",
                   std::to_string(form.upsample));
  operands.require(form.stride_s == 1 || form.stride_s == 2, "stride_s", "is not a size there is a kernel for", "1 or 2",
                   std::to_string(form.stride_s));
  kernels::CachedConv3d p;
  p.type = number_of(type);
  p.batch = x.size(0);
  p.frames = x.size(1);
  p.height = x.size(2);
  p.width = x.size(3);
  p.in = x.size(4);
  p.out = weight.size(0);
  p.kernel_t = static_cast<int>(weight.size(1));
  p.kernel_s = static_cast<int>(weight.size(2));
  p.stride_t = static_cast<int>(form.stride_t);
  p.stride_s = static_cast<int>(form.stride_s);
  p.past = static_cast<int>(form.past >= 0 ? form.past : weight.size(1) - form.stride_t);
  p.upsample = static_cast<int>(form.upsample);
  p.replicate = form.replicate;
  operands.require(form.stride_t >= 1 && p.past >= 0, "stride_t", "must be at least 1 and at most the kernel's length",
                   "1 to " + std::to_string(p.kernel_t), std::to_string(form.stride_t));
  // Stride 2 pads below and right alone, as the reference's encoders do.
  p.pad = form.stride_s == 1 ? p.kernel_s / 2 : 0;
  const int64_t span = p.past + p.frames - p.kernel_t;
  p.out_t = span < 0 ? 0 : span / form.stride_t + 1;
  p.out_h = p.height * form.upsample / form.stride_s;
  p.out_w = p.width * form.upsample / form.stride_s;
  p.x = x.const_data_ptr();
  p.weight = weight.const_data_ptr();
  if (cache.defined()) {
    operands.also("cache", cache, type, {p.batch, -1, p.height, p.width, p.in}).contiguous("cache", cache);
    operands.aligned("cache", cache, 8);
    p.cache = cache.const_data_ptr();
    p.cache_frames = cache.size(1);
  }
  operands.require(p.frames + p.cache_frames > 0 || p.out_t == 0, "x", "must have a frame to repeat", "at least 1", "0");
  if (bias.defined()) {
    operands.also("bias", bias, at::kFloat, {p.out}).contiguous("bias", bias);
    p.bias = bias.const_data_ptr<float>();
  }
  const at::Tensor out = at::empty({p.batch, p.out_t, p.out_h, p.out_w, p.out}, x.options());
  if (residual.defined()) {
    operands.also("residual", residual, type, out.sizes().vec()).contiguous("residual", residual);
    p.residual = residual.const_data_ptr();
  }
  p.result = out.mutable_data_ptr();
  at::Tensor factor, cache_factor;
  if (gamma.defined()) {
    operands.also("gamma", gamma, at::kFloat, {p.in}).contiguous("gamma", gamma);
    p.gamma = gamma.const_data_ptr<float>();
    factor = factors(operands, x);
    p.factor = factor.const_data_ptr<float>();
    if (cache.defined()) {
      cache_factor = factors(operands, cache);
      p.cache_factor = cache_factor.const_data_ptr<float>();
    }
  }
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_cached_conv3d", p);
  else
    spread(p.batch * p.out_t * p.out_h * p.out_w, 16,
           [&](int64_t begin, int64_t end) { kernels::cached_conv3d_cpu(p, begin, end); });
  return out;
}

}  // namespace orrery::ops
