#include "ops/tile_rows.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>

#include "kernels/isa.h"
#include "ops/huge_pages.h"
#include "ops/workspace.h"
#include "orrery/error.h"

namespace orrery::ops {
namespace {

constexpr int64_t kStep = kernels::tile_depth(kernels::TileForm::kBFloat16), kColumns = kernels::kSumSide;

uint16_t* room_for(Workspace& memory, int64_t rows, int64_t depth) {
  return reinterpret_cast<uint16_t*>(memory.floats((rows * kernels::split_stride(depth) + 1) / 2));
}
int64_t whole_tiles(size_t rows) {
  return (static_cast<int64_t>(rows) + kColumns - 1) / kColumns * kColumns;
}

}  // namespace

bool fits_tile_rows(const at::Tensor& weight) {
  return weight.to(at::kBFloat16).to(at::kFloat).equal(weight.to(at::kFloat));
}
bool uses_tile_rows(const at::Tensor& weight) {
  return kernels::has_tiles() && fits_tile_rows(weight);
}

TileWeight::TileWeight(const at::Tensor& weight, const at::Tensor& bias)
    : depth_(weight.size(1)), columns_(weight.size(0)), taps_(weight.size(2)) {
  if (!fits_tile_rows(weight))
    throw Error(ErrorKind::kArgument, {.place = "ops::TileWeight", .what = "takes weights that bfloat16 holds exactly"});
  const int64_t blocks = (columns_ + kColumns - 1) / kColumns, deep = kernels::split_depth(depth_);
  const at::Tensor padded = at::zeros({blocks * kColumns, taps_, deep}, at::kFloat);
  padded.narrow(0, 0, columns_).narrow(2, 0, depth_).copy_(weight.transpose(1, 2));
  packed_ = in_huge_pages(padded.to(at::kBFloat16)
                              .view({blocks, kColumns, taps_, deep / kStep, kStep / 2, 2})
                              .permute({0, 2, 3, 4, 1, 5}));
  bias_ = at::zeros({blocks * kColumns}, at::kFloat);
  bias_.narrow(0, 0, columns_).copy_(bias);
}

kernels::TileRows TileWeight::product(float* out, std::span<const int64_t> out_rows, std::span<const int64_t> taps,
                                      int64_t depth) const {
  return {.row_count = static_cast<int64_t>(out_rows.size()),
          .taps = taps.data(),
          .tap_count = static_cast<int64_t>(taps.size()),
          .depth = depth,
          .weight = static_cast<const uint8_t*>(packed_.const_data_ptr()),
          .bias = bias_.const_data_ptr<float>(),
          .columns = columns_,
          .out = out,
          .out_rows = out_rows.data(),
          .machine = kernels::has_tiles() ? kernels::TileMachine::kProcessor : kernels::TileMachine::kEmulated};
}

void TileWeight::gather(const float* in, std::span<const int64_t> rows, std::span<const int64_t> taps, float* out,
                        std::span<const int64_t> out_rows, kernels::Then then, const float* gate) const {
  constexpr std::array<int64_t, 1> kHere = {0};
  kernels::TileRows all = product(out, out_rows, kHere, taps_ * kernels::split_depth(depth_));
  all.then = then;
  all.gate = gate;
  Workspace memory;
  uint16_t* const split = room_for(memory, whole_tiles(rows.size()), all.depth);
  all.in = split;
  kernels::split_rows({.from = in,
                       .rows = rows.data(),
                       .row_count = static_cast<int64_t>(rows.size()),
                       .taps = taps.data(),
                       .tap_count = taps_,
                       .tap_depth = depth_,
                       .to = split});
  kernels::tile_rows(all);
}

void TileWeight::convolve(const float* picture, int64_t side, float* out, std::span<const int64_t> out_rows,
                          kernels::Then then, const kernels::Affine* affine) const {
  constexpr std::array<int64_t, 1> kHere = {0};
  const int64_t across = side + 2;
  std::array<int64_t, 9> taps;
  for (int64_t tap = 0; tap < 9; ++tap) taps[tap] = tap / 3 * across + tap % 3;
  kernels::TileRows all = product(out, out_rows, taps, kernels::split_depth(depth_));
  all.then = then;
  const int64_t stride = kernels::split_stride(all.depth);
  Workspace memory;
  uint16_t* const split = room_for(memory, whole_tiles(out_rows.size()) + taps.back(), all.depth);
  all.in = split;
  const auto zeros = [&](int64_t pixel, int64_t count) { std::fill_n(split + pixel * stride, count * stride, uint16_t{0}); };
  std::vector<int64_t> pixels(side);
  for (int64_t x = 0; x < side; ++x) pixels[x] = x * depth_;
  zeros(0, across + 1);
  for (int64_t y = 0; y < side; ++y) {
    const int64_t row = (y + 1) * across + 1;
    kernels::split_rows({.from = picture + y * side * depth_,
                         .rows = pixels.data(),
                         .row_count = side,
                         .taps = kHere.data(),
                         .tap_count = 1,
                         .tap_depth = depth_,
                         .to = split + row * stride,
                         .silu = affine != nullptr,
                         .affine = affine != nullptr ? *affine : kernels::Affine()});
    zeros(row + side, 2);
  }
  zeros((side + 1) * across + 1, side + 1);
  kernels::tile_rows(all);
}

std::vector<int64_t> padded_rows(int64_t side, int64_t out) {
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < side * (side + 2) - 2; ++i)
    rows.push_back(i % (side + 2) < side ? (i / (side + 2) * side + i % (side + 2)) * out : -1);
  return rows;
}

}  // namespace orrery::ops
