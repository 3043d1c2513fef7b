#pragma once

#include <cstdint>

namespace orrery::kernels {

/// Who multiplies tiles: Intel AMX, or plain C++ with exactly its arithmetic, which runs anywhere and proves the rest.
enum class TileMachine { kProcessor, kEmulated };

/// A tile: 16 rows of 64 bytes, which are 32 numbers of bfloat16 or 64 of int8, or 16 sums of 32 bits.
inline constexpr int64_t kTileSide = 16, kTileRow = 64;
/// Sums of one product: two tiles high and wide. Of each operand a step takes two tiles for each part.
inline constexpr int64_t kSumSide = 2 * kTileSide, kStepBytes = kSumSide * kTileRow;

/// What is multiplied: whole numbers, or parts of bfloat16 that add up to float32.
enum class TileForm {
  kInt8,
  kBFloat16,  ///< inputs in three parts, weights in one
  kFloat32,   ///< both in three parts
};
constexpr int64_t input_parts(TileForm form) {
  return form == TileForm::kInt8 ? 1 : 3;
}
constexpr int64_t weight_parts(TileForm form) {
  return form == TileForm::kFloat32 ? 3 : 1;
}
/// Numbers of the depth in one step.
constexpr int64_t tile_depth(TileForm form) {
  return form == TileForm::kInt8 ? 64 : 32;
}

/// sums[32][32] = inputs · weightsᵀ, in float32 or, of int8, whole numbers.
struct TileProduct {
  TileForm form;
  const uint8_t* inputs;   ///< of 32 rows: [step][part][row][64 bytes]
  const uint8_t* weights;  ///< of 32 columns: [step][part][pair or four of numbers][column][4 bytes]
  int64_t steps;
  void* sums;
  const uint8_t* ahead;  ///< comes into the second-level cache meanwhile
  int64_t ahead_bytes;
};
void multiply_tiles(const TileProduct& product, TileMachine machine);

/// The same of weights of bfloat16 and rows that lie where they are, split in two parts.
struct RowTileProduct {
  const uint16_t* inputs;           ///< the first row
  int64_t stride, part;             ///< numbers from row to row, from the high parts to the low
  const int64_t* taps;              ///< in rows: the depth goes on in other rows
  int64_t tap_count, steps;         ///< steps of each tap
  const uint8_t* weights;           ///< [tap][step][pair][32 columns][4 bytes]
  int64_t row_tiles, column_tiles;  ///< 1 or 2: those that are wanted
  float* sums;                      ///< [32][32]
};
void multiply_row_tiles(const RowTileProduct& product, TileMachine machine);

/// Makes this thread ready for multiply_tiles(), and the tiles free again: while they hold something each change of threads
/// has 8 KiB more to save.
class TileSession {
 public:
  explicit TileSession(TileMachine machine);
  ~TileSession();
  TileSession(const TileSession&) = delete;
  TileSession& operator=(const TileSession&) = delete;

 private:
  TileMachine machine_;
};

}  // namespace orrery::kernels
