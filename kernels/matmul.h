#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace orrery::kernels {

/// How a weight matrix lies in memory.
enum class WeightStorage { kFloat32, kBFloat16, kFloat8 };

/// Up to four row-major matrices of one size: the quarters of a matrix, or one whole (the others null).
template <typename T>
struct Quarters {
  const T* at[4];
  int64_t stride;  ///< elements between rows
};

/// One quarter, or the sum of two: at[first] + sign · at[second]. `second` is −1 where there is none.
struct Term {
  int first, second;
  float sign;
};

/// Where a product goes: added to `data` with its sign, or written over it where `overwrite`, then with `bias` (may be
/// null).
struct ProductTarget {
  float* data;
  float sign;
  bool overwrite;
  const float* bias;
};

/// One product of terms: with one quarter on each side a plain product, with seven of them one level of Strassen's
/// algorithm.
struct Product {
  Term input, weight;
  ProductTarget targets[2];  ///< rows × columns each; the second's data may be null
};

/// How many rows a panel of packed inputs has on this processor.
int64_t matmul_panel_rows();
/// Floats that pack_inputs() writes for so many rows of one product.
int64_t packed_input_floats(int64_t rows, int64_t depth);
/// Floats that a thread needs beside its operands.
int64_t matmul_scratch_floats();

/// Packs the panels [first_panel, last_panel) of every product's input [rows, depth]; a product's panels follow those of
/// the product before it.
void pack_inputs(const Quarters<float>& inputs, std::span<const Product> products, int64_t rows, int64_t depth,
                 int64_t first_panel, int64_t last_panel, float* packed);

/// inputs [rows, depth] · weightᵀ, weight [columns, depth], of which this call computes the columns [first_column,
/// last_column) of every product. A block of the weight is transposed once for all products and expanded to float32 for
/// each, inside the second-level cache: bfloat16 and float8 weights cost no memory.
struct Matmul {
  std::span<const Product> products;
  const float* inputs;  ///< as packed by pack_inputs()
  int64_t rows, depth;
  WeightStorage storage;
  Quarters<void> weight;
  int64_t output_stride;  ///< floats between the rows of a target
};
void multiply(const Matmul& matmul, int64_t first_column, int64_t last_column, float* scratch);

}  // namespace orrery::kernels
