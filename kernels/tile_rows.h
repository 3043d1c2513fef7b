#pragma once

#include <cstdint>

#include "kernels/small_network.h"
#include "kernels/tiles.h"

// The products of small_network.h through matrix tiles, for weights that bfloat16 holds exactly. Inputs are taken as the sum
// of two bfloat16: of 16 digits about 2e-6 (relative L2) is lost, as by Winograd's filtering.
namespace orrery::kernels {

/// Numbers of `depth` as tiles take them: whole steps, the last filled up with zeros.
constexpr int64_t split_depth(int64_t depth) {
  constexpr int64_t kStep = tile_depth(TileForm::kBFloat16);
  return (depth + kStep - 1) / kStep * kStep;
}
/// From one split row to the next: both parts, and a cache line more that keeps rows from falling into one set of the cache.
constexpr int64_t split_stride(int64_t depth) {
  return 2 * split_depth(depth) + kTileRow / 2;
}

/// to[r][split_stride(depth)] = the bfloat16 parts of from[rows[r]][taps · tap_depth], each tap's numbers at from + rows[r]
/// + taps[tap]; depth = tap_count · split_depth(tap_depth). `to` is aligned to 64 bytes. An infinite number becomes NaN.
struct RowSplit {
  const float* from;
  const int64_t* rows;
  int64_t row_count;
  const int64_t* taps;
  int64_t tap_count, tap_depth;
  uint16_t* to;
  bool silu = false;   ///< of each number, on its way in
  Affine affine = {};  ///< of each channel of a tap, before that
};
void split_rows(const RowSplit& split);

/// out[out_rows[r]][n] = then(bias[n] + Σ_tap Σ_k in[r + taps[tap]][k] · weight[n][tap][k]) of split rows `in`.
struct TileRows {
  const uint16_t* in;  ///< readable up to row row_count, rounded up to 32, plus the largest tap
  int64_t row_count;
  const int64_t* taps;  ///< in rows
  int64_t tap_count;
  int64_t depth;          ///< of one tap, as split_depth() says
  const uint8_t* weight;  ///< bfloat16 [columns / 32][tap][step][pair of the depth][32 columns][2]
  const float* bias;      ///< filled up to whole blocks of 32 columns
  int64_t columns;
  const float* gate = nullptr;  ///< [columns], of kAddGated
  Then then = Then::kStore;
  float* out = nullptr;
  const int64_t* out_rows;  ///< where each row begins in `out`; below zero: nobody wants it
  TileMachine machine;
};
void tile_rows(const TileRows& product);

}  // namespace orrery::kernels
