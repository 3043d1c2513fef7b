#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/matmul.h"
#include "kernels/tiles.h"

namespace orrery::kernels {

/// Bytes that pack_tile_inputs() writes for so many rows.
int64_t packed_tile_bytes(TileForm form, int64_t rows, int64_t depth);
/// Bytes that a thread needs beside its operands in either function.
int64_t tile_scratch_bytes(TileForm form, int64_t depth);
/// Columns that multiply() computes at a time: fewer read the inputs again for fewer.
int64_t tile_columns(TileForm form, int64_t depth);

/// Packs the panels [first_panel, last_panel) of kSumSide rows of `inputs` [rows, depth], `stride` floats apart: in three
/// parts of bfloat16 that add up to the input, or rounded to ±127 as pack_int8_inputs() does, with scales[row].
struct TileInputs {
  TileForm form;
  const float* inputs;
  int64_t stride, rows, depth;
  uint8_t* packed;
  float* scales;  ///< [rows], of kInt8
};
void pack_tile_inputs(const TileInputs& inputs, int64_t first_panel, int64_t last_panel, uint8_t* scratch);

/// inputs [rows, depth] · (scales · weight)ᵀ, of which multiply() computes the columns [first_column, last_column).
struct TileMatmul {
  TileForm form;
  const uint8_t* inputs;      ///< as packed by pack_tile_inputs()
  const float* input_scales;  ///< [rows], of kInt8
  int64_t rows, depth;
  WeightStorage storage;  ///< of forms other than kInt8
  const void* weight;     ///< [columns, depth]
  int64_t weight_stride;  ///< elements between its rows
  const float* scales;    ///< [columns] or null: none
  const float* bias;      ///< [columns] or null
  float* output;          ///< [rows, columns]
  int64_t output_stride;  ///< floats between its rows
  bool first;             ///< the output is written over, with the bias; else added to
  TileMachine machine;
};
void multiply(const TileMatmul& matmul, int64_t first_column, int64_t last_column, uint8_t* scratch);

}  // namespace orrery::kernels
