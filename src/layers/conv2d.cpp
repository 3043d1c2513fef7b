#include "layers/conv2d.h"

#include <ATen/ATen.h>

#include <utility>
#include <vector>

namespace orrery::layers {

namespace {

at::Tensor channels_last(const at::Tensor& x) {
  return x.contiguous(at::MemoryFormat::ChannelsLast);
}

}  // namespace

Conv2d::Conv2d(const Weights& weights, const Conv2dSizes& sizes)
    : weight_(channels_last(weights.get("weight", {sizes.out, sizes.in / sizes.groups, sizes.kernel, sizes.kernel}))),
      bias_(sizes.bias ? weights.get("bias", {sizes.out}) : at::Tensor()),
      stride_(sizes.stride),
      padding_(sizes.kernel / 2),
      groups_(sizes.groups) {}

Conv2d::Conv2d(const at::Tensor& weight, at::Tensor bias, int64_t stride, int64_t padding)
    : weight_(channels_last(weight)), bias_(std::move(bias)), stride_(stride), padding_(padding) {}

at::Tensor Conv2d::operator()(const at::Tensor& x) const {
  return at::conv2d(channels_last(x), weight_, bias_, stride_, padding_, 1, groups_);
}

at::Tensor Conv2d::relu(const at::Tensor& x) const {
  return (*this)(x).relu_();
}

at::Tensor Conv2d::add_relu(const at::Tensor& x, const at::Tensor& residual) const {
  return (*this)(x).add_(residual).relu_();
}

namespace {

// The 2x2 windows of the picture padded by one: the output pixel 2i + phase reads the windows at i + phase, and of its three
// taps two fall on the same input pixel.
at::Tensor fold_taps(const at::Tensor& weight) {
  const auto fold = [](const at::Tensor& w, int64_t dim, int64_t phase) {
    const auto tap = [&](int64_t k) { return w.narrow(dim, k, 1); };
    return phase == 0 ? at::cat({tap(0), tap(1) + tap(2)}, dim) : at::cat({tap(0) + tap(1), tap(2)}, dim);
  };
  const auto exact = weight.to(at::kDouble);
  std::vector<at::Tensor> phases;
  for (int64_t row : {0, 1}) {
    for (int64_t column : {0, 1}) phases.push_back(fold(fold(exact, 2, row), 3, column));
  }
  return at::cat(phases, 0).to(weight.scalar_type());  // [4 · frames · out, in, 2, 2]
}

}  // namespace

UpsampleConv2d::UpsampleConv2d(const at::Tensor& weight, int64_t frames)
    : taps_(fold_taps(weight), at::Tensor(), 1, 1), frames_(frames) {}

at::Tensor UpsampleConv2d::operator()(const at::Tensor& x, int64_t batch) const {
  const int64_t height = x.size(2), width = x.size(3), steps = x.size(0) / batch;
  const int64_t channels = taps_.out_channels() / (4 * frames_);
  const auto phases = taps_(x).view({steps, batch, 4, frames_, channels, height + 1, width + 1});
  auto out =
      at::empty({steps * frames_ * batch, channels, 2 * height, 2 * width}, x.options(), at::MemoryFormat::ChannelsLast);
  const auto frames = out.view({steps, frames_, batch, channels, height, 2, width, 2});
  for (int64_t row : {0, 1}) {
    for (int64_t column : {0, 1}) {
      const auto phase = phases.select(2, 2 * row + column).narrow(4, row, height).narrow(5, column, width);
      frames.select(5, row).select(6, column).copy_(phase.transpose(1, 2));
    }
  }
  return out;
}

}  // namespace orrery::layers
