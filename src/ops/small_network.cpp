#include "ops/small_network.h"

#include <ATen/ATen.h>

#include <array>

#include "ops/huge_pages.h"
#include "orrery/error.h"

namespace orrery::ops {

PackedProduct::PackedProduct(const at::Tensor& weight, const at::Tensor& bias, Form form) {
  if ((weight.dim() != 2 && weight.dim() != 4) || bias.dim() != 1 || bias.size(0) != weight.size(0))
    throw Error(ErrorKind::kArgument,
                {.place = "ops::PackedProduct", .what = "needs a weight [out,in] or [out,in,h,w] and a bias [out]"});
  const at::Tensor whole = weight.to(at::kFloat).reshape({weight.size(0), weight.size(1), -1});  // [out,in,taps]
  columns_ = whole.size(0);
  depth_ = whole.size(1);
  taps_ = whole.size(2);
  if (form == Form::kTiles || (form == Form::kFaster && uses_tile_rows(weight))) {
    tiles_ = TileWeight(whole, bias);
    return;
  }
  const int64_t blocks = (columns_ + kernels::kColumns - 1) / kernels::kColumns;
  const at::Tensor padded = at::zeros({blocks * kernels::kColumns, depth_, taps_}, at::kFloat);
  padded.narrow(0, 0, columns_).copy_(whole);
  packed_ = padded.view({blocks, kernels::kColumns, depth_, taps_}).permute({0, 3, 2, 1}).contiguous();
  const at::Tensor half = packed_.to(at::kHalf);
  packed_ = in_huge_pages(half.to(at::kFloat).equal(packed_) ? half : packed_);
  bias_ = at::zeros({blocks * kernels::kColumns}, at::kFloat);
  bias_.narrow(0, 0, columns_).copy_(bias);
}

void PackedProduct::operator()(const float* in, std::span<const int64_t> rows, std::span<const int64_t> taps, float* out,
                               std::span<const int64_t> out_rows, Then then, const float* gate) const {
  if (!tiles_.empty()) return tiles_.gather(in, rows, taps, out, out_rows, then, gate);
  const bool half = packed_.scalar_type() == at::kHalf;
  kernels::row_product({.in = in,
                        .rows = rows.data(),
                        .out_rows = out_rows.data(),
                        .row_count = static_cast<int64_t>(rows.size()),
                        .taps = taps.data(),
                        .tap_count = taps_,
                        .depth = depth_,
                        .weight = half ? nullptr : packed_.const_data_ptr<float>(),
                        .half_weight = half ? static_cast<const uint16_t*>(packed_.const_data_ptr()) : nullptr,
                        .bias = bias_.const_data_ptr<float>(),
                        .columns = columns_,
                        .gate = gate,
                        .then = then,
                        .out = out},
                       0, packed_.size(0));
}

void PackedProduct::operator()(const float* in, int64_t count, float* out, Then then, const float* gate) const {
  constexpr int64_t kAtOnce = 64;
  constexpr std::array<int64_t, 1> kHere = {0};
  std::array<int64_t, kAtOnce> rows, out_rows;
  for (int64_t i = 0; i < std::min(count, kAtOnce); ++i) {
    rows[i] = i * depth_;
    out_rows[i] = i * columns_;
  }
  for (int64_t first = 0; first < count; first += kAtOnce) {
    const auto some = static_cast<size_t>(std::min(kAtOnce, count - first));
    (*this)(in + first * depth_, std::span(rows).first(some), kHere, out + first * columns_, std::span(out_rows).first(some),
            then, gate);
  }
}

}  // namespace orrery::ops
