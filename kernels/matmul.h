#pragma once

#include <cstddef>
#include <cstdint>

namespace orrery::kernels {

/// How a weight matrix lies in memory.
enum class WeightStorage { kFloat32, kBFloat16 };

/// A row-major matrix, or the sum of two with equal strides: first + sign · second. `second` may be null.
/// Sums are what one level of Strassen's algorithm multiplies.
template <typename T>
struct MatrixSum {
  const T* first;
  const T* second;
  float sign;
  int64_t stride;  ///< elements between rows
};

/// Where a product goes: added to `data` with its sign, or written over it where `overwrite`, then with `bias` (may be
/// null).
struct ProductTarget {
  float* data;
  float sign;
  bool overwrite;
  const float* bias;
};

/// How many rows a panel of packed inputs has on this processor.
int64_t matmul_panel_rows();
/// Floats that pack_inputs() writes for so many rows.
int64_t packed_input_floats(int64_t rows, int64_t depth);
/// Floats that a thread needs beside its operands.
int64_t matmul_scratch_floats();

/// Packs the panels [first_panel, last_panel) of inputs [rows, depth].
void pack_inputs(const MatrixSum<float>& inputs, int64_t rows, int64_t depth, int64_t first_panel, int64_t last_panel,
                 float* packed);

/// inputs [rows, depth] · weightᵀ, weight [columns, depth], of which this call computes the columns [first_column,
/// last_column). bfloat16 weights are expanded while they are packed into blocks that the cache holds, so they cost no
/// memory.
struct Matmul {
  const float* inputs;  ///< as packed by pack_inputs()
  int64_t rows, depth;
  WeightStorage storage;
  MatrixSum<void> weight;
  ProductTarget targets[2];  ///< rows × columns each; the second's data may be null
  int64_t output_stride;     ///< floats between the rows of a target
};
void multiply(const Matmul& matmul, int64_t first_column, int64_t last_column, float* scratch);

}  // namespace orrery::kernels
