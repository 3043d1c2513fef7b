#include "kernels/tile_rows.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tile_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After foreach_target.
#include "kernels/cpu/partial-inl.h"
#include "kernels/cpu/silu-inl.h"
#include "kernels/cpu/split-inl.h"

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels::HWY_NAMESPACE {
namespace {

using Floats = hn::CappedTag<float, 16>;
using Bits = hn::RebindToUnsigned<Floats>;
constexpr Floats d;
constexpr int64_t kLanes = hn::MaxLanes(d), kStep = tile_depth(TileForm::kBFloat16);

// The upper half of each number, rounded (halves away from zero), counts: what is below is left as it is.
HWY_INLINE hn::Vec<Bits> Rounded(hn::Vec<Floats> x) {
  return hn::Add(hn::BitCast(Bits(), x), hn::Set(Bits(), 0x8000u));
}

// A step's numbers as their nearest bfloat16 and what is left of them.
HWY_INLINE void SplitStep(const float* HWY_RESTRICT from, uint16_t* HWY_RESTRICT high, uint16_t* HWY_RESTRICT low) {
  const auto rest = [](hn::Vec<Floats> x, hn::Vec<Bits> rounded) {
    return Rounded(hn::Sub(x, hn::BitCast(d, hn::And(rounded, hn::Set(Bits(), 0xFFFF0000u)))));
  };
  for (int64_t k = 0; k < kStep; k += 2 * kLanes) {
    const auto x = hn::LoadU(d, from + k), y = hn::LoadU(d, from + k + kLanes);
    const auto rounded_x = Rounded(x), rounded_y = Rounded(y);
    StoreUpperHalves(d, rounded_x, rounded_y, high + k);
    StoreUpperHalves(d, rest(x, rounded_x), rest(y, rounded_y), low + k);
  }
}

void SplitRows(const RowSplit& split) {
  const int64_t depth = split.tap_count * split_depth(split.tap_depth);
  HWY_ALIGN float piece[kStep];
  for (int64_t r = 0; r < split.row_count; ++r) {
    uint16_t* to = split.to + r * split_stride(depth);
    for (int64_t tap = 0; tap < split.tap_count; ++tap)
      for (int64_t k = 0; k < split.tap_depth; k += kStep, to += kStep) {
        const float* from = split.from + split.rows[r] + split.taps[tap] + k;
        const int64_t count = std::min(kStep, split.tap_depth - k);
        if (count < kStep || split.silu) {
          for (int64_t i = 0; i < kStep; i += kLanes) {
            const auto load = [&](const float* p) {
              return i + kLanes <= count ? hn::LoadU(d, p + i) : load_some(d, p + i, std::max<int64_t>(0, count - i));
            };
            auto x = load(from);
            if (split.affine.scale != nullptr) x = hn::MulAdd(x, load(split.affine.scale + k), load(split.affine.shift + k));
            hn::Store(split.silu ? SiluOf(d, x) : x, d, piece + i);
          }
          from = piece;
        }
        SplitStep(from, to, to + depth);
      }
  }
}

// What the tiles hold goes to the output: `count` rows from `row` on, 32 columns or what is left of them.
void Finish(const TileRows& p, int64_t row, int64_t column, const float* HWY_RESTRICT sums) {
  const int64_t rows = std::min(kSumSide, p.row_count - row), columns = std::min(kSumSide, p.columns - column);
  for (int64_t r = 0; r < rows; ++r, sums += kSumSide) {
    if (p.out_rows[row + r] < 0) continue;
    float* HWY_RESTRICT out = p.out + p.out_rows[row + r] + column;
    for (int64_t c = 0; c < columns; c += kLanes) {
      const int64_t here = columns - c;
      const auto load = [&](const float* from) { return here >= kLanes ? hn::LoadU(d, from) : load_some(d, from, here); };
      auto sum = hn::Add(hn::LoadU(d, sums + c), hn::LoadU(d, p.bias + column + c));
      if (p.then == Then::kAddGated) sum = hn::Mul(sum, load(p.gate + column + c));
      if (p.then != Then::kStore) sum = hn::Add(sum, load(out + c));
      if (here >= kLanes)
        hn::StoreU(sum, d, out + c);
      else
        store_some(sum, d, out + c, here);
    }
  }
}

void MultiplyRows(const TileRows& p) {
  const TileSession session(p.machine);
  alignas(64) float sums[kSumSide * kSumSide];
  const int64_t stride = split_stride(p.depth), steps = p.depth / kStep;
  for (int64_t column = 0; column < p.columns; column += kSumSide) {
    const int64_t block = p.tap_count * steps * kStepBytes;
    const uint8_t* weight = p.weight + column / kSumSide * block;
    for (int64_t row = 0; row < p.row_count; row += kSumSide) {
      multiply_row_tiles({.inputs = p.in + row * stride,
                          .stride = stride,
                          .part = p.depth,
                          .taps = p.taps,
                          .tap_count = p.tap_count,
                          .steps = steps,
                          .weights = weight,
                          .row_tiles = p.row_count - row > kTileSide ? 2 : 1,
                          .column_tiles = p.columns - column > kTileSide ? 2 : 1,
                          .sums = sums},
                         p.machine);
      Finish(p, row, column, sums);
    }
  }
}

}  // namespace
}  // namespace orrery::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace orrery::kernels {

HWY_EXPORT(SplitRows);
HWY_EXPORT(MultiplyRows);

void split_rows(const RowSplit& split) {
  HWY_DYNAMIC_DISPATCH(SplitRows)(split);
}
void tile_rows(const TileRows& product) {
  HWY_DYNAMIC_DISPATCH(MultiplyRows)(product);
}

}  // namespace orrery::kernels
#endif
