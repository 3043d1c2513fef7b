#include "ops/small_convolution.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <sstream>

#include "kernels/norm_silu.h"
#include "kernels/winograd.h"
#include "ops/huge_pages.h"
#include "orrery/error.h"

namespace orrery::ops {
namespace {

// With few tiles it does not pay to read 36 matrices of weights in place of nine, unless they come from the second-level
// cache.
constexpr int64_t kManyTiles = 16, kFewestTiles = 4, kNearFloats = 36 * 64 * 96;
constexpr int64_t kMostTiles = 32;  // of a block: its transformed pixels stay in the second-level cache

kernels::WinogradConv sizes(int64_t side, int64_t in, int64_t out) {
  kernels::WinogradConv conv;
  conv.height = conv.width = side;
  conv.in = in;
  conv.out = out;
  conv.pixel_stride = out;
  conv.block = std::min(conv.tiles(), kMostTiles);
  return conv;
}

}  // namespace

SmallConvolution::SmallConvolution(const at::Tensor& weight, const at::Tensor& bias, int64_t side, Form form)
    : side_(side), in_(weight.dim() == 4 ? weight.size(1) : 0), out_(weight.size(0)) {
  if (weight.dim() != 4 || weight.size(2) != 3 || weight.size(3) != 3 || bias.dim() != 1 || bias.size(0) != out_ ||
      side < 1) {
    std::ostringstream got;
    got << "a weight " << weight.sizes() << ", a bias " << bias.sizes() << ", side " << side;
    throw Error(ErrorKind::kArgument, {.place = "ops::SmallConvolution",
                                       .expected = "a weight [out,in,3,3], a bias [out], a side of 1 or more",
                                       .got = got.str()});
  }
  if (form == Form::kTiles || (form == Form::kFaster && uses_tile_rows(weight))) {
    tiles_ = TileWeight(weight.to(at::kFloat).flatten(2), bias);
    plain_ = padded_rows(side, out_);
    return;
  }
  const kernels::WinogradConv conv = sizes(side, in_, out_);
  const bool pays = in_ >= kernels::kWinogradPanel &&
                    (conv.tiles() >= kManyTiles || (conv.tiles() >= kFewestTiles && conv.weight_floats() <= kNearFloats));
  if (form == Form::kWinograd || (form == Form::kFaster && pays)) {
    const at::Tensor whole = weight.to(at::kFloat).contiguous();
    transformed_ = empty_in_huge_pages({conv.weight_floats()}, at::kFloat);
    kernels::winograd_weights(conv, whole.const_data_ptr<float>(), 1, 0,
                              conv.out_panels() * conv.in_panels() * kernels::kWinogradPanel,
                              transformed_.mutable_data_ptr<float>());
    bias_ = bias.to(at::kFloat).contiguous();
    return;
  }
  direct_ = PackedProduct(weight, bias, PackedProduct::Form::kVectors);
  for (int64_t y = 0; y < side; ++y)
    for (int64_t x = 0; x < side; ++x) {
      plain_.push_back((y * side + x) * out_);
      padded_.push_back((y * (side + 2) + x) * in_);
    }
  for (int64_t tap = 0; tap < 9; ++tap) taps_.push_back((tap / 3 * (side + 2) + tap % 3) * in_);
}

float* SmallConvolution::picture(Workspace& memory) const {
  const int64_t whole = side_ + 2 * border(), size = whole * whole * in_;
  float* const picture = memory.floats(size);
  if (border() > 0) std::fill_n(picture, size, 0.f);
  return picture;
}

void SmallConvolution::operator()(const float* picture, float* out, Then then) const {
  if (!tiles_.empty()) return tiles_.convolve(picture, side_, out, plain_, then);
  if (border() > 0) return direct_(picture, padded_, taps_, out, plain_, then);
  kernels::WinogradConv conv = sizes(side_, in_, out_);
  conv.weights = transformed_.const_data_ptr<float>();
  conv.bias = bias_.const_data_ptr<float>();
  conv.frames = &picture;
  const float* const residual = out;
  conv.residuals = then == Then::kStore ? nullptr : &residual;
  conv.outputs = &out;
  Workspace memory;
  kernels::winograd_convolve(conv, 0, conv.blocks(), memory.floats(conv.workspace_floats()));
}

void SmallConvolution::after_silu(const float* x, float* out, Then then, const Affine& affine) const {
  if (!tiles_.empty()) return tiles_.convolve(x, side_, out, plain_, then, &affine);
  Workspace memory;
  float* const made = picture(memory);
  for (int64_t y = 0; y < side_; ++y) {
    const float* const from = x + y * side_ * in_;
    float* const to = made + at(y, 0);
    if (affine.scale != nullptr) {
      kernels::affine_silu(from, 0, affine.scale, affine.shift, in_, 0, side_, to);
    } else {
      std::copy_n(from, side_ * in_, to);
      silu(to, side_ * in_);
    }
  }
  (*this)(made, out, then);
}

}  // namespace orrery::ops
