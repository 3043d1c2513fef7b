#include "models/tiny/taehv_blocks.h"

#include <ATen/ATen.h>

namespace orrery::models {
namespace {

using layers::Conv2d;

// Each frame's channels, then those of the frame before it: [T·B,C,H,W] → [T·B,2C,H,W].
at::Tensor beside_past(const at::Tensor& x, const at::Tensor& past, int64_t batch) {
  const int64_t frames = x.size(0), channels = x.size(1);
  auto both = at::empty({frames, 2 * channels, x.size(2), x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
  both.narrow(1, 0, channels).copy_(x);
  auto before = both.narrow(1, channels, channels);
  if (past.defined()) {
    before.narrow(0, 0, batch).copy_(past);
  } else {
    before.narrow(0, 0, batch).zero_();
  }
  before.narrow(0, batch, frames - batch).copy_(x.narrow(0, 0, frames - batch));
  return both;
}

// conv(pool(x)) for a 1x1 pool [mid, in, 1, 1] and a 3x3 conv [out, mid, 3, 3]: [out, in, 3, 3], summed in float64.
at::Tensor compose(const at::Tensor& conv, const at::Tensor& pointwise) {
  return at::einsum("omyx,mi->oiyx", {conv.to(at::kDouble), pointwise.to(at::kDouble).flatten(1)});
}

}  // namespace

MemBlock::MemBlock(const Weights& weights, int64_t in, int64_t out)
    : conv_0_(weights.sub("conv.0"), {.in = 2 * in, .out = out}),
      conv_2_(weights.sub("conv.2"), {.in = out, .out = out}),
      conv_4_(weights.sub("conv.4"), {.in = out, .out = out}) {
  if (in != out) skip_.emplace(weights.sub("skip"), layers::Conv2dSizes{.in = in, .out = out, .kernel = 1, .bias = false});
}

at::Tensor MemBlock::operator()(const at::Tensor& x, const at::Tensor& past, int64_t batch) const {
  const auto hidden = conv_2_.relu(conv_0_.relu(beside_past(x, past, batch)));
  return conv_4_.add_relu(hidden, skip_ ? (*skip_)(x) : x);
}

SuperMemBlock::SuperMemBlock(const Weights& weights, int64_t width)
    : conv_0_(weights.sub("conv.0"), {.in = 2 * width, .out = 2 * width, .kernel = 7, .groups = 2 * width, .bias = false}),
      conv_1_(weights.sub("conv.1"), {.in = 2 * width, .out = 4 * width, .kernel = 1}),
      conv_3_(weights.sub("conv.3"), {.in = 4 * width, .out = width, .kernel = 1, .bias = false}) {}

at::Tensor SuperMemBlock::operator()(const at::Tensor& x, const at::Tensor& past, int64_t batch) const {
  return conv_3_(conv_1_.relu(conv_0_(beside_past(x, past, batch)))).add_(x);
}

at::Tensor MemoryBlock::operator()(const at::Tensor& x, std::vector<at::Tensor>& slots, int64_t batch) const {
  auto& past = slots[slot];
  auto out = std::visit([&](const auto& mem_block) { return mem_block(x, past, batch); }, block);
  // A copy, so that the cache holds one frame and not the chunk it came with.
  past = x.size(0) == batch ? x : x.narrow(0, x.size(0) - batch, batch).clone();
  return out;
}

at::Tensor fold_frames(const at::Tensor& x, int64_t stride, int64_t batch) {
  if (stride == 1) return x;
  const int64_t steps = x.size(0) / (stride * batch), channels = x.size(1), height = x.size(2), width = x.size(3);
  auto out = at::empty({steps * batch, stride * channels, height, width}, x.options(), at::MemoryFormat::ChannelsLast);
  out.view({steps, batch, stride, channels, height, width})
      .copy_(x.view({steps, stride, batch, channels, height, width}).transpose(1, 2));
  return out;
}

at::Tensor unfold_frames(const at::Tensor& x, int64_t stride, int64_t batch) {
  if (stride == 1) return x;
  const int64_t steps = x.size(0) / batch, channels = x.size(1) / stride, height = x.size(2), width = x.size(3);
  auto out = at::empty({steps * stride * batch, channels, height, width}, x.options(), at::MemoryFormat::ChannelsLast);
  out.view({steps, stride, batch, channels, height, width})
      .copy_(x.view({steps, batch, stride, channels, height, width}).transpose(1, 2));
  return out;
}

Conv2d pool_and_downsample(const Weights& pool, int64_t stride, const Weights& conv, int64_t in, int64_t out) {
  const auto weight = conv.get("weight", {out, in, 3, 3});
  const auto folded = compose(weight, pool.get("conv.weight", {in, stride * in, 1, 1})).to(weight.scalar_type());
  return Conv2d(folded, at::Tensor(), /*stride=*/2, /*padding=*/1);
}

layers::UpsampleConv2d upsample_and_grow(const Weights& grow, int64_t stride, const Weights& conv, int64_t in, int64_t out) {
  const auto weight = conv.get("weight", {out, in, 3, 3});
  std::vector<at::Tensor> frames;  // stride times [out, in, 3, 3]
  for (const auto& frame : grow.get("conv.weight", {stride * in, in, 1, 1}).chunk(stride)) {
    frames.push_back(compose(weight, frame));
  }
  return layers::UpsampleConv2d(at::cat(frames).to(weight.scalar_type()), stride);
}

}  // namespace orrery::models
