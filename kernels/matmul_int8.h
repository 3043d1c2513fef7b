#pragma once

#include <cstdint>

namespace orrery::kernels {

/// What a row's largest input becomes (ops::int8_input_levels()).
int64_t matmul_int8_levels();
/// Bytes that pack_int8_inputs() writes for so many rows.
int64_t packed_int8_bytes(int64_t rows, int64_t depth);
/// Bytes that a thread needs beside its operands in either function.
int64_t matmul_int8_scratch_bytes(int64_t depth);

/// Rounds the panels [first_panel, last_panel) of matmul_panel_rows() rows of inputs [rows, depth] and packs them. Each
/// row's largest element becomes ±matmul_int8_levels(): inputs ≈ packed · scales[row]. A row that is not finite gets the
/// scale NaN.
void pack_int8_inputs(const float* inputs, int64_t rows, int64_t depth, int64_t first_panel, int64_t last_panel,
                      uint8_t* packed, float* scales, uint8_t* scratch);

/// inputs [rows, depth] · weightᵀ + bias, of which this call computes the columns [first_column, last_column).
struct MatmulInt8 {
  const uint8_t* inputs;      ///< as packed by pack_int8_inputs()
  const float* input_scales;  ///< [rows]
  int64_t rows, depth;
  const int8_t* weight;        ///< [columns, depth]
  const float* weight_scales;  ///< [columns]
  const float* bias;           ///< [columns] or null
  float* output;               ///< [rows, columns]
  int64_t output_stride;       ///< floats between its rows
};
void multiply(const MatmulInt8& matmul, int64_t first_column, int64_t last_column, uint8_t* scratch);

}  // namespace orrery::kernels
