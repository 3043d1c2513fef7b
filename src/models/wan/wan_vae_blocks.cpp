#include "models/wan/wan_vae_blocks.h"

#include <ATen/ATen.h>

#include <utility>

#include "layers/rms_norm.h"
#include "ops/winograd.h"

namespace orrery::models {

using layers::l2_rms_norm;
using layers::l2_rms_norm_silu;
using layers::l2_rms_norm_silu_;

WanResidualBlock::WanResidualBlock(const Weights& weights, int64_t in, int64_t out, int64_t& next_slot)
    : norm1_(weights.get("norm1.gamma", {in, 1, 1, 1}).flatten()),
      conv1_(weights.sub("conv1"), {in, out}, next_slot),
      norm2_(weights.get("norm2.gamma", {out, 1, 1, 1}).flatten()),
      conv2_(weights.sub("conv2"), {out, out}, next_slot) {
  if (in != out) conv_shortcut_.emplace(weights.sub("conv_shortcut"), in, out, 3);
}

at::Tensor WanResidualBlock::operator()(at::Tensor x, CodecCache& cache) const {
  at::Tensor h = l2_rms_norm_silu(x, norm1_);
  if (conv_shortcut_) x = (*conv_shortcut_)(x);
  h = conv1_(std::move(h), cache);
  return conv2_(l2_rms_norm_silu_(h, norm2_), cache, x);
}

WanAttentionBlock::WanAttentionBlock(const Weights& weights, int64_t dim)
    : norm_(weights.get("norm.gamma", {dim, 1, 1}).flatten()),
      to_qkv_(weights.sub("to_qkv"), dim, 3 * dim, 2),
      proj_(weights.sub("proj"), dim, dim, 2) {}

at::Tensor WanAttentionBlock::operator()(const at::Tensor& x) const {
  const int64_t frames = x.size(0) * x.size(1), pixels = x.size(2) * x.size(3), dim = x.size(4);
  const at::Tensor qkv = to_qkv_(l2_rms_norm(x, norm_)).view({frames, 1, pixels, 3 * dim});
  const auto parts = qkv.chunk(3, -1);
  const at::Tensor attended = at::scaled_dot_product_attention(parts[0], parts[1], parts[2]);  // [B·T,1,H·W,C]
  return proj_(attended.reshape(x.sizes())).add_(x);
}

WanMidBlock::WanMidBlock(const Weights& weights, int64_t dim, int64_t& next_slot)
    : resnet0_(weights.sub("resnets", 0), dim, dim, next_slot),
      attention_(weights.sub("attentions", 0), dim),
      resnet1_(weights.sub("resnets", 1), dim, dim, next_slot) {}

at::Tensor WanMidBlock::operator()(at::Tensor x, CodecCache& cache) const {
  return resnet1_(attention_(resnet0_(std::move(x), cache)), cache);
}

WanHead::WanHead(const Weights& weights, int64_t in, int64_t out, int64_t& next_slot)
    : norm_out_(weights.get("norm_out.gamma", {in, 1, 1, 1}).flatten()),
      conv_out_(weights.sub("conv_out"), {in, out}, next_slot) {}

at::Tensor WanHead::operator()(at::Tensor x, CodecCache& cache) const {
  return conv_out_(l2_rms_norm_silu_(x, norm_out_), cache);
}

WanDownsample::WanDownsample(const Weights& weights, int64_t dim, bool temporal, int64_t& next_slot)
    : weight_(weights.get("resample.1.weight", {dim, dim, 3, 3})), bias_(weights.get("resample.1.bias", {dim})) {
  if (temporal) {
    const layers::CausalConv3dSizes halving{.in = dim, .out = dim, .kernel_t = 3, .kernel_s = 1, .stride_t = 2};
    time_conv_.emplace(weights.sub("time_conv"), halving, next_slot);
  }
}

at::Tensor WanDownsample::operator()(const at::Tensor& x, CodecCache& cache, bool first) const {
  const int64_t batch = x.size(0), frames = x.size(1);
  // One row and one column of zeros at the far edges only.
  const at::Tensor padded = at::constant_pad_nd(x.flatten(0, 1), {0, 0, 0, 1, 0, 1}).permute({0, 3, 1, 2});
  const at::Tensor weight = weight_.to(x.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast);
  at::Tensor halved = at::conv2d(padded, weight, bias_.to(x.scalar_type()), 2).permute({0, 2, 3, 1}).contiguous();
  halved = halved.unflatten(0, {batch, frames});  // [B,T,H/2,W/2,C]
  if (!time_conv_) return halved;
  if (first) {
    time_conv_->remember(halved, cache);
    return halved;
  }
  return (*time_conv_)(std::move(halved), cache);  // [B,T/2,H/2,W/2,C]
}

namespace {

// Nearest-neighbour doubling shows a 3x3 kernel only 2x2 different pixels: for each of the four phases of the output the
// nine taps fold into four. [out,in,3,3] → [(row phase, column phase, out), in, 2, 2].
at::Tensor fold_doubling(const at::Tensor& kernel) {
  const auto fold = [](const at::Tensor& k, int64_t dim) {
    const at::Tensor a = k.narrow(dim, 0, 1), b = k.narrow(dim, 1, 1), c = k.narrow(dim, 2, 1);
    return at::stack({at::cat({a, b + c}, dim), at::cat({a + b, c}, dim)});
  };
  return fold(fold(kernel.to(at::kFloat), 3), 3).flatten(0, 2);
}

}  // namespace

WanUpsample::WanUpsample(const Weights& weights, int64_t in, int64_t out, bool temporal, int64_t& next_slot)
    : weight_(layers::for_device(weights.get("resample.1.weight", {out, in, 3, 3}))),
      bias_(weights.get("resample.1.bias", {out})) {
  if (temporal) {
    const layers::CausalConv3dSizes doubling{.in = in, .out = 2 * in, .kernel_t = 3, .kernel_s = 1};
    time_conv_.emplace(weights.sub("time_conv"), doubling, next_slot);
  }
}

at::Tensor WanUpsample::operator()(at::Tensor x, CodecCache& cache, bool first) const {
  if (time_conv_ && !first) {
    const int64_t dim = x.size(4);
    x = (*time_conv_)(std::move(x), cache);                                  // [B,T,H,W,2·C]
    x = x.unflatten(4, {2, dim}).permute({0, 1, 4, 2, 3, 5}).flatten(1, 2);  // [B,2·T,H,W,C]
  }
  const int64_t batch = x.size(0), frames = x.size(1), height = x.size(2), width = x.size(3), out = bias_.size(0);
  if (const at::Tensor y = layers::spatial_conv_by_kernel(x, weight_, bias_, true); y.defined()) return y;
  if (ops::winograd_pays(x, out, 1, true))
    return ops::winograd_3x3({}, x, {.weight = weight_, .bias = bias_, .doubled = true});
  const at::Tensor weight = fold_doubling(weight_).to(x.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast);
  // Window (i, j) of the frame padded by one holds the pixels i − 1, i and j − 1, j.
  const at::Tensor windows = at::conv2d(x.flatten(0, 1).permute({0, 3, 1, 2}), weight, at::Tensor(), 1, 1)
                                 .permute({0, 2, 3, 1})
                                 .unflatten(3, {2, 2, out});  // [B·T,H+1,W+1,row phase,column phase,out]
  const at::Tensor bias = bias_.to(x.scalar_type());
  at::Tensor doubled = at::empty({batch * frames, height, 2, width, 2, out}, x.options());
  for (int64_t row : {0, 1}) {
    for (int64_t column : {0, 1}) {
      const at::Tensor phase = windows.narrow(1, row, height).narrow(2, column, width).select(3, row).select(3, column);
      at::Tensor target = doubled.select(2, row).select(3, column);
      at::add_out(target, phase, bias);
    }
  }
  return doubled.view({batch, frames, 2 * height, 2 * width, out});
}

at::Tensor AvgDown3D::operator()(const at::Tensor& x) const {
  const int64_t missing = (factor_t - x.size(1) % factor_t) % factor_t;
  const at::Tensor clip = missing > 0 ? at::constant_pad_nd(x, {0, 0, 0, 0, 0, 0, missing, 0}) : x;
  const at::Tensor blocks = clip.unflatten(3, {-1, factor_s}).unflatten(2, {-1, factor_s}).unflatten(1, {-1, factor_t});
  // [B,t,ft,h,fh,w,fw,C] → [B,t,h,w,(C,ft,fh,fw)] → [B,t,h,w,out,group]
  return blocks.permute({0, 1, 3, 5, 7, 2, 4, 6}).flatten(4).unflatten(4, {out, -1}).mean(-1);
}

at::Tensor DupUp3D::operator()(const at::Tensor& x, bool first) const {
  const int64_t repeats = out * factor_t * 4 / x.size(4);
  const at::Tensor blocks = x.repeat_interleave(repeats, 4).unflatten(4, {out, factor_t, 2, 2});
  // [B,t,h,w,out,ft,fh,fw] → [B,t,ft,h,fh,w,fw,out] → [B,t·ft,h·2,w·2,out]
  const at::Tensor clip = blocks.permute({0, 1, 5, 2, 6, 3, 7, 4}).flatten(5, 6).flatten(3, 4).flatten(1, 2);
  return first ? clip.narrow(1, factor_t - 1, clip.size(1) - factor_t + 1) : clip;
}

}  // namespace orrery::models
