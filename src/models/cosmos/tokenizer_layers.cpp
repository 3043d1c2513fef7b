#include "models/cosmos/tokenizer_layers.h"

#include <ATen/ATen.h>

#include <utility>

#include "layers/causal_conv3d.h"
#include "layers/temporal_conv.h"
#include "ops/norm_silu.h"
#include "ops/winograd.h"

namespace orrery::models {
namespace {

/// [T,B,H,W,C] as a channels-last [T·B,C,H,W], no copy.
at::Tensor as_images(const at::Tensor& x) {
  return x.reshape({x.size(0) * x.size(1), x.size(2), x.size(3), x.size(4)}).permute({0, 3, 1, 2});
}

/// The way back, to [T,B,H,W,C].
at::Tensor as_frames(const at::Tensor& images, int64_t frames) {
  const at::Tensor y = images.permute({0, 2, 3, 1}).contiguous();
  return y.view({frames, -1, y.size(1), y.size(2), y.size(3)});
}

/// Weight with its input and output channels replaced by linear combinations, summed in double.
at::Tensor map_channels(at::Tensor weight, const at::Tensor& in_map, const at::Tensor& out_map) {
  const at::ScalarType dtype = weight.scalar_type();
  if (in_map.defined()) {
    weight = at::tensordot(weight.to(at::kDouble), in_map.to(weight.device()), {1}, {0}).movedim(-1, 1).to(dtype);
  }
  if (out_map.defined()) weight = at::tensordot(out_map.to(weight.device()), weight.to(at::kDouble), {1}, {0}).to(dtype);
  return weight;
}

}  // namespace

const CosmosTensorNames& CosmosTensorNames::original_video() {
  static const CosmosTensorNames names{".conv3d",  "0.conv3d", "1.conv3d",        ".norm",       "q.conv3d",
                                       "k.conv3d", "v.conv3d", "proj_out.conv3d", "nin_shortcut"};
  return names;
}

const CosmosTensorNames& CosmosTensorNames::original_image() {
  static const CosmosTensorNames names{"", "", "", "", "q", "k", "v", "proj_out", "nin_shortcut"};
  return names;
}

const CosmosTensorNames& CosmosTensorNames::diffusers_video() {
  static const CosmosTensorNames names{"",     "conv_s", "conv_t",   ".norm",         "to_q",
                                       "to_k", "to_v",   "to_out.0", "conv_shortcut", true};
  return names;
}

CosmosCausalConv3d::CosmosCausalConv3d(const Weights& weights, bool image, int64_t in, int64_t out, CosmosKernel kernel,
                                       CosmosSlots& slots, const at::Tensor& in_map, const at::Tensor& out_map)
    : kernel_(kernel) {
  std::vector<int64_t> shape{out, in};
  if (!image) shape.push_back(kernel.time);
  shape.insert(shape.end(), {kernel.space, kernel.space});
  weight_ = map_channels(weights.get("weight", shape), in_map, out_map);
  bias_ = weights.get("bias", {out});
  if (out_map.defined()) bias_ = map_channels(bias_, {}, out_map);
  if (kernel.time > 1) slot_ = slots.next();
  const int64_t o = weight_.size(0), i = weight_.size(1), k = kernel.space;
  if (kernel.time == 1) {
    weight_ = k == 1 ? weight_.reshape({o, i}) : layers::for_device(weight_.reshape({o, i, k, k}));
  } else if (k == 1) {
    weight_ = weight_.reshape({o, i, kernel.time});  // still a view of the file, untouched until it runs
  }
}

at::Tensor CosmosCausalConv3d::operator()(const at::Tensor& x, CosmosPass& pass) const {
  if (kernel_.time > 1) return kernel_.space > 1 ? over_both(x, pass) : over_time(x, pass);
  return kernel_.space > 1 ? over_space(x) : at::linear(x, weight_, bias_);
}

at::Tensor CosmosCausalConv3d::over_space(const at::Tensor& x) const {
  if (kernel_.space_stride == 1 && ops::winograd_pays(x, weight_.size(0), 1)) {
    return ops::winograd_3x3({}, x, {.weight = weight_, .bias = bias_});
  }
  if (kernel_.space_stride == 1) {
    if (const at::Tensor y = layers::spatial_conv_by_kernel(x, weight_, bias_, false); y.defined()) return y;
  }
  const int64_t pad = kernel_.space_stride == 1 ? kernel_.space / 2 : 0;
  const at::Tensor y = at::conv2d(as_images(x), weight_, bias_, {kernel_.space_stride, kernel_.space_stride}, {pad, pad});
  return as_frames(y, x.size(0));
}

at::Tensor CosmosCausalConv3d::over_doubled(const at::Tensor& x) const {
  const at::Tensor doubled = x.repeat_interleave(2, 2).repeat_interleave(2, 3);
  if (const at::Tensor y = layers::spatial_conv_by_kernel(x, weight_, bias_, true, doubled); y.defined()) return y;
  if (!ops::winograd_pays(x, weight_.size(0), 1, true)) return over_space(doubled).add_(doubled);
  return ops::winograd_3x3({}, x, {.weight = weight_, .bias = bias_, .residual = doubled, .doubled = true});
}

at::Tensor CosmosCausalConv3d::frame_before(int64_t frame, const at::Tensor& x, const CosmosPass& pass) const {
  const int64_t kept = kernel_.time - kernel_.time_stride;
  return pass.first ? x.select(0, 0) : pass.cache.slots[slot_].select(0, frame + kept);
}

at::Tensor CosmosCausalConv3d::over_time(const at::Tensor& x, CosmosPass& pass) const {
  at::Tensor& tail = pass.cache.slots[slot_];
  const bool together = layers::takes_temporal_conv(x, kernel_.time, kernel_.time_stride);
  const at::Tensor y = together ? layers::temporal_conv(pass.first ? at::Tensor() : tail, x, weight_, bias_) : by_taps(x, pass);
  if (!pass.last) {
    const int64_t frames = x.size(0), kept = kernel_.time - kernel_.time_stride, fresh = std::min(frames, kept);
    std::vector<at::Tensor> parts;
    for (int64_t frame = fresh - kept; frame < 0; ++frame) parts.push_back(frame_before(frame, x, pass).unsqueeze(0));
    parts.push_back(x.slice(0, frames - fresh));
    tail = at::cat(parts);
  }
  return y;
}

at::Tensor CosmosCausalConv3d::by_taps(const at::Tensor& x, const CosmosPass& pass) const {
  // Output frame n ends at input frame offset + stride·n; tap k reads kernel−1−k frames before that. At the start of a clip
  // the first output needs its first frame alone; later chunks hold whole strides.
  const int64_t frames = x.size(0), taps = kernel_.time, stride = kernel_.time_stride;
  const int64_t offset = pass.first ? 0 : stride - 1;
  const int64_t outputs = frames > offset ? (frames - offset - 1) / stride + 1 : 0;
  const auto rows = [](const at::Tensor& t) { return t.reshape({-1, t.size(-1)}); };

  at::Tensor y = at::empty({outputs, x.size(1), x.size(2), x.size(3), weight_.size(0)}, x.options());
  for (int64_t tap = taps - 1; tap >= 0; --tap) {
    const at::Tensor matrix = weight_.select(2, tap).t().contiguous();  // [I,O]
    const int64_t start = offset - (taps - 1 - tap);
    int64_t n = 0;
    for (; n < outputs && start + stride * n < 0; ++n)
      y[n].view({-1, y.size(-1)}).addmm_(rows(frame_before(start + stride * n, x, pass)), matrix);
    if (n == outputs) continue;
    const at::Tensor seen = rows(x.slice(0, start + stride * n, start + stride * (outputs - 1) + 1, stride));
    at::Tensor target = y.slice(0, n).view({-1, y.size(-1)});
    if (tap == taps - 1) {
      at::addmm_out(target, bias_, seen, matrix);  // the newest tap never looks back, so it writes every output frame first
    } else {
      target.addmm_(seen, matrix);
    }
  }
  return y;
}

at::Tensor CosmosCausalConv3d::over_both(const at::Tensor& x, CosmosPass& pass) const {
  const int64_t kept = kernel_.time - kernel_.time_stride;
  at::Tensor& tail = pass.cache.slots[slot_];
  const at::Tensor past = pass.first ? x.slice(0, 0, 1).expand({kernel_.time - 1, -1, -1, -1, -1}) : tail;
  const at::Tensor seen = at::cat({past, x});
  if (!pass.last) tail = seen.slice(0, seen.size(0) - kept).clone();
  const int64_t pad = kernel_.space_stride == 1 ? kernel_.space / 2 : 0;
  const at::Tensor y = at::conv3d(seen.permute({1, 4, 0, 2, 3}), weight_, bias_,
                                  {kernel_.time_stride, kernel_.space_stride, kernel_.space_stride}, {0, pad, pad});
  return y.permute({2, 0, 3, 4, 1}).contiguous();
}

CosmosConvProjection3d::CosmosConvProjection3d(const Weights& weights, CosmosKind kind, const CosmosTensorNames& names,
                                               int64_t in, int64_t out, CosmosSlots& slots, const at::Tensor& in_map,
                                               const at::Tensor& out_map) {
  if (kind == CosmosKind::kImage) {
    parts_.emplace_back(weights, true, in, out, CosmosKernel{1, 3}, slots, in_map, out_map);
  } else if (kind == CosmosKind::kBase) {
    parts_.emplace_back(weights.sub("conv3d"), false, in, out, CosmosKernel{3, 3}, slots, in_map, out_map);
  } else {
    parts_.emplace_back(weights.sub(names.spatial), false, in, out, CosmosKernel{1, 3}, slots, in_map);
    parts_.emplace_back(weights.sub(names.temporal), false, out, out, CosmosKernel{3, 1}, slots, at::Tensor(), out_map);
  }
}

at::Tensor CosmosConvProjection3d::operator()(at::Tensor x, CosmosPass& pass) const {
  for (const CosmosCausalConv3d& part : parts_) x = part(x, pass);
  return x;
}

namespace {

constexpr double kEpsilon = 1e-6;

}  // namespace

CosmosCausalGroupNorm::CosmosCausalGroupNorm(const Weights& weights, CosmosKind kind, int64_t channels, int64_t groups)
    : whole_clip_(kind != CosmosKind::kImage && groups > 1),
      groups_(groups),
      weight_(weights.get("weight", {channels})),
      bias_(weights.get("bias", {channels})) {}

at::Tensor CosmosCausalGroupNorm::silu(const at::Tensor& x) const {
  if (groups_ > 1 || !x.device().is_cpu() || x.scalar_type() != at::kFloat || !x.is_contiguous()) {
    return at::silu((*this)(x));
  }
  at::Tensor y = at::empty_like(x);
  ops::frame_norm_silu(x.flatten(0, 1), weight_, bias_, kEpsilon, y.flatten(0, 1));
  return y;
}

at::Tensor CosmosCausalGroupNorm::operator()(const at::Tensor& x) const {
  if (whole_clip_) {
    const at::Tensor y = at::group_norm(x.permute({1, 4, 0, 2, 3}).contiguous(), groups_, weight_, bias_, kEpsilon);
    return y.permute({2, 0, 3, 4, 1}).contiguous();
  }
  return as_frames(at::group_norm(as_images(x), groups_, weight_, bias_, kEpsilon), x.size(0));
}

CosmosResnetBlock3d::CosmosResnetBlock3d(const Weights& weights, const CosmosLayerSetting& s, int64_t in, int64_t out)
    : norm1_(weights.sub("norm1" + s.names.norm), s.kind, in, s.groups),
      conv1_(weights.sub("conv1"), s.kind, s.names, in, out, s.slots),
      norm2_(weights.sub("norm2" + s.names.norm), s.kind, out, s.groups),
      conv2_(weights.sub("conv2"), s.kind, s.names, out, out, s.slots) {
  if (in != out) {
    nin_shortcut_.emplace(weights.sub(s.names.shortcut + s.names.conv), s.kind == CosmosKind::kImage, in, out,
                          CosmosKernel{}, s.slots);
  }
}

at::Tensor CosmosResnetBlock3d::operator()(const at::Tensor& x, CosmosPass& pass) const {
  at::Tensor h = conv1_(norm1_.silu(x), pass);
  h = conv2_(norm2_.silu(h), pass);
  return h.add_(nin_shortcut_ ? (*nin_shortcut_)(x, pass) : x);
}

CosmosCausalAttention::CosmosCausalAttention(const Weights& weights, const CosmosLayerSetting& s, int64_t channels,
                                             Axis axis)
    : axis_(axis), norm_(weights.sub("norm" + s.names.norm), s.kind, channels, s.groups) {
  std::vector<int64_t> shape{channels, channels, 1, 1};
  if (s.kind != CosmosKind::kImage) shape.push_back(1);
  std::vector<at::Tensor> matrices, biases;
  for (const std::string& name : {s.names.q, s.names.k, s.names.v}) {
    matrices.push_back(weights.sub(name).get("weight", shape).reshape({channels, channels}));
    biases.push_back(weights.sub(name).get("bias", {channels}));
  }
  qkv_weight_ = at::cat(matrices);
  qkv_bias_ = at::cat(biases);
  out_weight_ = weights.sub(s.names.proj_out).get("weight", shape).reshape({channels, channels});
  out_bias_ = weights.sub(s.names.proj_out).get("bias", {channels});
  if (axis == Axis::kTime) slot_ = s.slots.next();
}

at::Tensor CosmosCausalAttention::operator()(const at::Tensor& x, CosmosPass& pass) const {
  const int64_t T = x.size(0), B = x.size(1), HW = x.size(2) * x.size(3), C = x.size(4);
  const at::Tensor qkv = at::linear(norm_(x), qkv_weight_, qkv_bias_);
  at::Tensor h;
  if (axis_ == Axis::kSpace) {
    const std::vector<at::Tensor> parts = qkv.view({T * B, 1, HW, 3 * C}).chunk(3, -1);
    h = at::scaled_dot_product_attention(parts[0], parts[1], parts[2]);  // [TB,1,HW,C]
  } else {
    const at::Tensor rows = qkv.view({T, B * HW, 3 * C});
    at::Tensor kv = rows.slice(-1, C);  // [T',BHW,2C], the past first
    at::Tensor& past = pass.cache.slots[slot_];
    if (!pass.first) kv = at::cat({past, kv});
    if (!pass.last) past = pass.first ? kv.contiguous() : kv;
    const int64_t seen = kv.size(0);
    const auto by_pixel = [](const at::Tensor& t) { return t.transpose(0, 1).unsqueeze(1); };  // [BHW,1,T,C]
    at::Tensor mask;  // [T,T'], what a frame may see
    if (T > 1) mask = at::ones({T, seen}, rows.options().dtype(at::kBool)).tril(seen - T);
    h = at::scaled_dot_product_attention(by_pixel(rows.slice(-1, 0, C)), by_pixel(kv.slice(-1, 0, C)),
                                         by_pixel(kv.slice(-1, C)),
                                         mask.defined() ? std::optional<at::Tensor>(mask) : std::nullopt);
    h = h.squeeze(1).transpose(0, 1).contiguous();  // [T,BHW,C]
  }
  return at::linear(h.reshape(x.sizes()), out_weight_, out_bias_).add_(x);
}

}  // namespace orrery::models
