#include "kernels/tile_matmul.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <cstring>

#ifndef ORRERY_TILE_MATMUL_ONCE
#define ORRERY_TILE_MATMUL_ONCE
namespace orrery::kernels {

// The same blocks of depth as in matmul_int8.cpp, so that sums are rounded to float32 at the same places. Products of floats
// are as deep as their caller packs them.
constexpr int64_t kInt8Depth = 2048;

}  // namespace orrery::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tile_matmul.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include "kernels/cpu/float8-inl.h"
#include "kernels/cpu/pack-inl.h"
#include "kernels/cpu/round-inl.h"
#include "kernels/cpu/split-inl.h"

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels::HWY_NAMESPACE {
namespace {

using Floats = hn::CappedTag<float, 16>;
using Ints = hn::RebindToSigned<Floats>;

int64_t StepsOf(TileForm form, int64_t depth) {
  return (depth + tile_depth(form) - 1) / tile_depth(form);
}

// Columns of `depth` weights, of which `valid` are there, as units of 32 bits: to[unit][column], with zeros behind the depth
// up to whole steps.
template <typename T>
void InterleaveColumns(const T* from, int64_t stride, int64_t valid, int64_t depth, int64_t units, uint32_t* to) {
  for (int64_t column = 0; column < kSumSide; column += kUnitLanes)
    Interleave(from + column * stride, stride, valid - column, depth, to + column, kSumSide);
  std::fill(to + units_of<T>(depth) * kSumSide, to + units * kSumSide, 0u);
}

// A part of 32 columns in one step.
constexpr int64_t kUnitsOfStep = kTileSide * kSumSide;

// Float8 has few enough digits to be bfloat16 exactly: a unit of four becomes two of pairs.
void WidenFloat8(const uint32_t* fours, int64_t units, uint32_t* pairs) {
  const Floats d;
  const Units d32;
  for (int64_t unit = 0; unit < units; ++unit, fours += kSumSide)
    for (int64_t half = 0; half < 2; ++half, pairs += kSumSide)
      for (int64_t i = 0; i < kSumSide; i += kUnitLanes) {
        const auto four = half == 0 ? hn::ShiftLeft<16>(hn::Load(d32, fours + i)) : hn::Load(d32, fours + i);
        const auto even = FromFloat8(d, hn::ShiftLeft<8>(four)), odd = FromFloat8(d, four);
        const auto upper = hn::And(hn::BitCast(d32, odd), hn::Set(d32, 0xFFFF0000u));
        hn::Store(hn::Or(hn::ShiftRight<16>(hn::BitCast(d32, even)), upper), d32, pairs + i);
      }
}

// Floats of [number][column] become pairs of each part: to[part][pair][column].
void SplitPairs(const float* from, uint32_t* to) {
  const Floats d;
  const Units d32;
  for (int64_t pair = 0; pair < kTileSide; ++pair, from += 2 * kSumSide, to += kSumSide)
    for (int64_t i = 0; i < kSumSide; i += kUnitLanes) {
      const auto even = Split(d, hn::Load(d, from + i)), odd = Split(d, hn::Load(d, from + kSumSide + i));
      for (int64_t part = 0; part < 3; ++part)
        hn::Store(hn::Or(hn::ShiftRight<16>(even.bits[part]), odd.bits[part]), d32, to + part * kUnitsOfStep + i);
    }
}

// 32 columns of the weight from `k` on.
void PackWeight(const TileMatmul& matmul, int64_t column, int64_t valid, int64_t k, int64_t depth, uint32_t* to) {
  constexpr int64_t kUnits = 64;  // a piece at a time
  HWY_ALIGN uint32_t piece[kUnits * kSumSide];
  const int64_t stride = matmul.weight_stride, place = column * stride + k, steps = StepsOf(matmul.form, depth);
  if (matmul.form == TileForm::kInt8)
    return InterleaveColumns(static_cast<const uint8_t*>(matmul.weight) + place, stride, valid, depth, steps * kTileSide,
                             to);
  switch (matmul.storage) {
    case WeightStorage::kBFloat16:
      return InterleaveColumns(static_cast<const uint16_t*>(matmul.weight) + place, stride, valid, depth, steps * kTileSide,
                               to);
    case WeightStorage::kFloat8:
      for (int64_t start = 0; start < depth; start += 4 * kUnits, to += 2 * kUnits * kSumSide) {
        const int64_t here = std::min(4 * kUnits, depth - start), units = StepsOf(matmul.form, here) * kTileSide / 2;
        InterleaveColumns(static_cast<const uint8_t*>(matmul.weight) + place + start, stride, valid, here, units, piece);
        WidenFloat8(piece, units, to);
      }
      return;
    case WeightStorage::kFloat32:
      for (int64_t start = 0; start < depth; start += kUnits) {
        const int64_t here = std::min(kUnits, depth - start), units = StepsOf(matmul.form, here) * 2 * kTileSide;
        InterleaveColumns(static_cast<const float*>(matmul.weight) + place + start, stride, valid, here, units, piece);
        for (int64_t unit = 0; unit < units; unit += 2 * kTileSide, to += 3 * kUnitsOfStep)
          SplitPairs(reinterpret_cast<const float*>(piece) + unit * kSumSide, to);
      }
      return;
  }
}

// Sums times the scales, added to the output or put there with the bias.
struct Target {
  const TileMatmul& matmul;
  int64_t row, rows, column, columns;
  bool overwrite;
};
template <bool kInts>
void AddSums(const uint8_t* HWY_RESTRICT sums, const Target& target) {
  const Floats d;
  const Ints i32;
  const TileMatmul& matmul = target.matmul;
  const float* scales = matmul.scales ? matmul.scales + target.column : nullptr;
  const float* bias = matmul.bias ? matmul.bias + target.column : nullptr;
  for (int64_t r = 0; r < target.rows; ++r) {
    const uint8_t* from = sums + r * kSumSide * 4;
    float* HWY_RESTRICT out = matmul.output + (target.row + r) * matmul.output_stride + target.column;
    const float scale = kInts ? matmul.input_scales[target.row + r] : 1.0f;
    int64_t c = 0;
    for (; c + kUnitLanes <= target.columns; c += kUnitLanes) {
      auto old = hn::Zero(d), factor = hn::Set(d, scale), sum = old;
      if (!target.overwrite)
        old = hn::LoadU(d, out + c);
      else if (bias)
        old = hn::LoadU(d, bias + c);
      if constexpr (kInts)
        sum = hn::ConvertTo(d, hn::Load(i32, reinterpret_cast<const int32_t*>(from) + c));
      else
        sum = hn::Load(d, reinterpret_cast<const float*>(from) + c);
      if (scales) factor = hn::Mul(factor, hn::LoadU(d, scales + c));
      hn::StoreU(hn::MulAdd(sum, factor, old), d, out + c);
    }
    for (; c < target.columns; ++c) {
      const float old = !target.overwrite ? out[c] : bias ? bias[c] : 0.0f;
      const float sum =
          kInts ? static_cast<float>(reinterpret_cast<const int32_t*>(from)[c]) : reinterpret_cast<const float*>(from)[c];
      out[c] = old + sum * (scales ? scale * scales[c] : scale);
    }
  }
}

// Every pair of panels of inputs times the packed weights of some columns and some of the depth.
void MultiplyBlock(const TileMatmul& matmul, int64_t first_column, int64_t columns, int64_t k, int64_t depth,
                   const uint8_t* weights, uint8_t* sums) {
  const int64_t steps = StepsOf(matmul.form, depth);
  const int64_t step_bytes = input_parts(matmul.form) * kStepBytes, panel = StepsOf(matmul.form, matmul.depth) * step_bytes;
  const int64_t weight_panel = steps * weight_parts(matmul.form) * kStepBytes;
  for (int64_t row = 0; row < matmul.rows; row += kSumSide) {
    const uint8_t* inputs = matmul.inputs + row / kSumSide * panel + k / tile_depth(matmul.form) * step_bytes;
    const int64_t rows = std::min(kSumSide, matmul.rows - row);
    // The next rows come from the third-level cache while these are multiplied.
    const int64_t ahead = row + kSumSide < matmul.rows ? steps * step_bytes : 0;
    for (int64_t column = 0; column < columns; column += kSumSide) {
      const int64_t here = std::min(kSumSide, columns - column);
      float* out = matmul.output + row * matmul.output_stride + first_column + column;
      for (int64_t r = 0; r < rows; ++r) {  // comes while the tiles are multiplied
        hwy::Prefetch(out + r * matmul.output_stride);
        hwy::Prefetch(out + r * matmul.output_stride + here - 1);
      }
      const int64_t from = ahead * column / columns / 64 * 64, to = ahead * std::min(columns, column + kSumSide) / columns;
      multiply_tiles(
          {matmul.form, inputs, weights + column / kSumSide * weight_panel, steps, sums, inputs + panel + from, to - from},
          matmul.machine);
      const Target target{matmul, row, rows, first_column + column, here, matmul.first && k == 0};
      matmul.form == TileForm::kInt8 ? AddSums<true>(sums, target) : AddSums<false>(sums, target);
    }
  }
}

void MultiplyColumns(const TileMatmul& matmul, int64_t first_column, int64_t last_column, uint8_t* scratch) {
  const TileSession session(matmul.machine);
  const int64_t most_depth = matmul.form == TileForm::kInt8 ? kInt8Depth : matmul.depth;
  const int64_t most_columns = tile_columns(matmul.form, matmul.depth);
  uint8_t* const sums = scratch;
  uint8_t* const weights = scratch + kSumSide * kSumSide * 4;
  for (int64_t start = first_column; start < last_column; start += most_columns) {
    const int64_t columns = std::min(most_columns, last_column - start);
    for (int64_t k = 0; k < matmul.depth; k += most_depth) {
      const int64_t depth = std::min(most_depth, matmul.depth - k);
      const int64_t panel = StepsOf(matmul.form, depth) * weight_parts(matmul.form) * kStepBytes;
      for (int64_t column = 0; column < columns; column += kSumSide)
        PackWeight(matmul, start + column, columns - column, k, depth,
                   reinterpret_cast<uint32_t*>(weights + column / kSumSide * panel));
      MultiplyBlock(matmul, start, columns, k, depth, weights, sums);
    }
  }
}

// Rows of 8 bits, with the offset that RoundRow() adds taken off again.
void PackRounded(const TileInputs& inputs, int64_t first, int64_t valid, uint8_t* scratch, uint8_t* to) {
  const int64_t steps = StepsOf(inputs.form, inputs.depth);
  for (int64_t row = 0; row < valid; ++row) {
    inputs.scales[first + row] = RoundRow(inputs.inputs + (first + row) * inputs.stride, inputs.depth, {127, 128}, scratch);
    std::fill(scratch + inputs.depth, scratch + steps * kTileRow, uint8_t{128});
    for (int64_t step = 0; step < steps; ++step)
      for (int64_t i = 0; i < kTileRow; ++i)
        to[step * kStepBytes + row * kTileRow + i] = scratch[step * kTileRow + i] ^ uint8_t { 128 };
  }
}

void PackInputs(const TileInputs& inputs, int64_t first_panel, int64_t last_panel, uint8_t* scratch) {
  constexpr int64_t kDepth = tile_depth(TileForm::kBFloat16);
  const int64_t steps = StepsOf(inputs.form, inputs.depth), panel = steps * input_parts(inputs.form) * kStepBytes;
  for (int64_t p = first_panel; p < last_panel; ++p) {
    const int64_t first = p * kSumSide, valid = std::min(kSumSide, inputs.rows - first);
    uint8_t* to = inputs.packed + p * panel;
    if (valid < kSumSide) std::memset(to, 0, static_cast<size_t>(panel));
    if (inputs.form == TileForm::kInt8) {
      PackRounded(inputs, first, valid, scratch, to);
      continue;
    }
    for (int64_t row = 0; row < valid; ++row) {
      const float* from = inputs.inputs + (first + row) * inputs.stride;
      for (int64_t step = 0; step < steps; ++step)
        SplitRow(from + step * kDepth, std::min(kDepth, inputs.depth - step * kDepth),
                 reinterpret_cast<uint16_t*>(to + step * 3 * kStepBytes + row * kTileRow), kStepBytes / 2);
    }
  }
}

}  // namespace
}  // namespace orrery::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace orrery::kernels {

HWY_EXPORT(MultiplyColumns);
HWY_EXPORT(PackInputs);

namespace {

// Packed weights fill half of the second-level cache of the processors that have tiles. The other half is for two panels of
// inputs.
constexpr int64_t kWeightBytes = 1 << 20;

int64_t padded(int64_t size, int64_t unit) {
  return (size + unit - 1) / unit * unit;
}

// Of packed weights that are multiplied at a time.
int64_t column_bytes(TileForm form, int64_t depth) {
  const int64_t deep = form == TileForm::kInt8 ? std::min(depth, kInt8Depth) : depth;
  return padded(deep, tile_depth(form)) / tile_depth(form) * weight_parts(form) * kTileRow;
}

}  // namespace

int64_t packed_tile_bytes(TileForm form, int64_t rows, int64_t depth) {
  return padded(rows, kSumSide) / kSumSide * (padded(depth, tile_depth(form)) / tile_depth(form)) * input_parts(form) *
         kStepBytes;
}

int64_t tile_columns(TileForm form, int64_t depth) {
  return std::clamp<int64_t>(kWeightBytes / column_bytes(form, depth) / kSumSide * kSumSide, kSumSide, 1024);
}

int64_t tile_scratch_bytes(TileForm form, int64_t depth) {
  const int64_t weights = tile_columns(form, depth) * column_bytes(form, depth);
  return kSumSide * kSumSide * 4 + std::max(weights, padded(depth, kTileRow));
}

void pack_tile_inputs(const TileInputs& inputs, int64_t first_panel, int64_t last_panel, uint8_t* scratch) {
  HWY_DYNAMIC_DISPATCH(PackInputs)(inputs, first_panel, last_panel, scratch);
}

void multiply(const TileMatmul& matmul, int64_t first_column, int64_t last_column, uint8_t* scratch) {
  HWY_DYNAMIC_DISPATCH(MultiplyColumns)(matmul, first_column, last_column, scratch);
}

}  // namespace orrery::kernels
#endif
