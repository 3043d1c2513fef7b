#include "layers/causal_conv3d.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "ops/cached_conv3d.h"
#include "ops/dispatch.h"
#include "ops/winograd.h"

namespace orrery::layers {

namespace {

// [B,T,H,W,C] → [B,t,H,W,out], without padding in time. On the CPU oneDNN is asked directly: at::conv3d would send
// channels-last clips to a path that unfolds all 27 taps in memory.
at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t stride_t) {
  const at::Tensor input = x.permute({0, 4, 1, 2, 3});
  const int64_t pad = weight.size(3) / 2;
  const bool onednn = x.device().is_cpu() && x.scalar_type() == at::kFloat;
  const at::Tensor out = onednn ? at::mkldnn_convolution(input, weight, bias, {0, pad, pad}, {stride_t, 1, 1}, {1, 1, 1}, 1)
                                : at::conv3d(input, weight, bias, {stride_t, 1, 1}, {0, pad, pad});
  return out.permute({0, 2, 3, 4, 1}).contiguous();
}

// Each of `frames` [B,1,H,W,C] behind the first `history` as a sum over the frames that its kernel sees, oldest first:
// nothing is copied together. What no later sum needs is let go.
at::Tensor sum_of_taps(std::vector<at::Tensor> frames, size_t history, const at::Tensor& weight, const at::Tensor& bias) {
  const size_t taps = static_cast<size_t>(weight.size(2));
  std::vector<at::Tensor> sums;
  for (size_t last = history; last < frames.size(); ++last) {
    const size_t oldest = last + 1 > taps ? last + 1 - taps : 0;
    at::Tensor sum;
    for (size_t i = oldest; i <= last; ++i) {
      const at::Tensor frame = frames[i].squeeze(1).permute({0, 3, 1, 2});
      if (last + 1 - i == taps) frames[i].reset();
      const at::Tensor tap =
          weight.select(2, static_cast<int64_t>(taps - 1 - (last - i))).contiguous(at::MemoryFormat::ChannelsLast);
      const at::Tensor part = at::conv2d(frame, tap, i == oldest ? bias : at::Tensor(), 1, tap.size(2) / 2);
      sum = i == oldest ? part : sum.add_(part);
    }
    sums.push_back(sum.permute({0, 2, 3, 1}).contiguous().unsqueeze(1));
  }
  return sums.size() == 1 ? sums.front() : at::cat(sums, 1);
}

// Whether the kernel that reads past and clip where they lie can take this clip.
bool fits_kernel(const at::Tensor& x) {
  return ops::on_device_with_kernels(x) && x.scalar_type() != at::kFloat && x.is_contiguous() && x.numel() > 0 &&
         x.size(-1) % 8 == 0;
}

// The frames of a stream that were kept, as one tensor; undefined where there are none.
at::Tensor joined(std::vector<at::Tensor> frames) {
  std::erase_if(frames, [](const at::Tensor& frame) { return !frame.defined(); });
  if (frames.empty()) return {};
  return frames.size() == 1 ? frames.front().contiguous() : at::cat(frames, 1);
}

}  // namespace

CausalConv3d::CausalConv3d(const Weights& weights, const CausalConv3dSizes& sizes, int64_t& next_slot)
    : weight_(for_device(weights.get("weight", {sizes.out, sizes.in, sizes.kernel_t, sizes.kernel_s, sizes.kernel_s}))),
      bias_(weights.get("bias", {sizes.out})),
      sizes_(sizes),
      first_slot_(next_slot) {
  next_slot += sizes.kernel_t - sizes.stride_t;
}

at::Tensor CausalConv3d::operator()(at::Tensor x, CodecCache& cache, const at::Tensor& residual) const {
  const auto oldest = cache.slots.begin() + first_slot_;
  std::vector<at::Tensor> history(oldest, oldest + sizes_.kernel_t - sizes_.stride_t);  // undefined: before the clip
  remember(x, cache);
  if (fits_kernel(x) && x.size(1) % sizes_.stride_t == 0) {
    const at::Tensor weight = weight_.to(x.scalar_type()).permute({0, 2, 3, 4, 1}).contiguous();
    return ops::cached_conv3d(x, joined(std::move(history)), weight, bias_.to(at::kFloat),
                              residual.defined() ? residual.contiguous() : residual, {}, {.stride_t = sizes_.stride_t});
  }
  if (sizes_.kernel_s == 3 && sizes_.stride_t == 1 && ops::winograd_pays(x, sizes_.out, sizes_.kernel_t)) {
    return ops::winograd_3x3(history, x, {.weight = weight_, .bias = bias_, .residual = residual});
  }
  at::Tensor y = directly(std::move(x), std::move(history));
  return residual.defined() ? y.add_(residual) : y;
}

at::Tensor CausalConv3d::directly(at::Tensor x, std::vector<at::Tensor> window) const {
  std::erase_if(window, [](const at::Tensor& frame) { return !frame.defined(); });
  const int64_t history = static_cast<int64_t>(window.size()), frames = x.size(1);
  const at::Tensor weight = weight_.to(x.scalar_type()), bias = bias_.to(x.scalar_type());

  const bool frame_outweighs_kernel = x.numel() > weight.numel();  // else cutting the kernel costs more than copying frames
  const bool one_or_narrow = frames == 1 || 4 * sizes_.out <= sizes_.in;  // else sums of several passes cost more
  if (one_or_narrow && sizes_.stride_t == 1 && frame_outweighs_kernel) {
    for (const at::Tensor& frame : std::exchange(x, at::Tensor()).split(1, 1)) window.push_back(frame);
    return sum_of_taps(std::move(window), static_cast<size_t>(history), weight, bias);
  }
  window.push_back(std::exchange(x, at::Tensor()));

  // Taps that would only see zeros are left out; where later frames of the chunk need them, zeros stand in.
  const int64_t taps = std::min(sizes_.kernel_t, history + frames);
  const int64_t missing = std::max<int64_t>(0, taps - sizes_.stride_t - history);
  if (missing > 0) {
    std::vector<int64_t> shape = window.back().sizes().vec();
    shape[1] = missing;
    window.insert(window.begin(), at::zeros(shape, window.back().options()));
  }
  const at::Tensor clip = window.size() == 1 ? window.front() : at::cat(window, 1);
  window.clear();
  return convolve(clip, weight.narrow(2, sizes_.kernel_t - taps, taps), bias, sizes_.stride_t);
}

void CausalConv3d::remember(const at::Tensor& x, CodecCache& cache) const {
  const int64_t look_back = sizes_.kernel_t - sizes_.stride_t, frames = x.size(1);
  const int64_t kept = std::min(frames, look_back);
  for (int64_t i = 0; i + kept < look_back; ++i) {
    cache.slots[first_slot_ + i] = cache.slots[first_slot_ + i + kept];
  }
  // A view would keep the whole chunk in memory.
  const at::Tensor tail = frames > kept ? x.narrow(1, frames - kept, kept).clone() : x;
  for (int64_t i = 0; i < kept; ++i) cache.slots[first_slot_ + look_back - kept + i] = tail.narrow(1, i, 1);
}

at::Tensor for_device(const at::Tensor& weight) {
  if (weight.is_cpu() || weight.is_meta()) return weight;
  return weight.contiguous(weight.dim() == 5 ? at::MemoryFormat::ChannelsLast3d : at::MemoryFormat::ChannelsLast);
}

at::Tensor spatial_conv_by_kernel(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool doubled,
                                  const at::Tensor& residual) {
  if (!fits_kernel(x)) return {};
  const auto each_alone = [](const at::Tensor& frames) { return frames.flatten(0, 1).unsqueeze(1); };  // [F,1,H,W,C]
  const at::Tensor taps = weight.to(x.scalar_type()).permute({0, 2, 3, 1}).contiguous().unsqueeze(1);
  const at::Tensor y = ops::cached_conv3d(each_alone(x), {}, taps, bias.to(at::kFloat),
                                          residual.defined() ? each_alone(residual.contiguous()) : residual, {},
                                          {.upsample = doubled ? 2 : 1});
  return y.squeeze(1).unflatten(0, {x.size(0), x.size(1)});
}

namespace {

std::vector<int64_t> pointwise_shape(int64_t in, int64_t out, int64_t dims) {
  std::vector<int64_t> shape(static_cast<size_t>(2 + dims), 1);
  shape[0] = out;
  shape[1] = in;
  return shape;
}

}  // namespace

PointwiseConv::PointwiseConv(const Weights& weights, int64_t in, int64_t out, int64_t dims)
    : weight_(weights.get("weight", pointwise_shape(in, out, dims)).reshape({out, in})), bias_(weights.get("bias", {out})) {}

at::Tensor PointwiseConv::operator()(const at::Tensor& x) const {
  return first(x, weight_.size(0));
}

at::Tensor PointwiseConv::first(const at::Tensor& x, int64_t out) const {
  return at::linear(x, weight_.narrow(0, 0, out).to(x.scalar_type()), bias_.narrow(0, 0, out).to(x.scalar_type()));
}

}  // namespace orrery::layers
