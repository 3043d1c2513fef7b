#include "ops/matmul.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "kernels/matmul.h"
#include "kernels/matmul_int8.h"
#include "ops/counted.h"
#include "ops/product_parts.h"
#include "ops/shares.h"
#include "ops/tile_matmul.h"
#include "orrery/error.h"

namespace orrery::ops {
namespace {

using kernels::Product;
using kernels::ProductTarget;

// Columns that one thread takes at least: a panel of the widest processors.
constexpr int64_t kColumns = 48;
// And at most, at a time.
constexpr int64_t kMostColumns = 240;
// So few rows are another kernel's work, which reads the weight once and packs nothing.
constexpr int64_t kFewRows = 8;
// Below these sizes the sums of Strassen's operands cost more than the product that they save. Measured:
// docs/performance.md.
constexpr int64_t kStrassenRows = 256, kStrassenSide = 1024;

// Larger products are computed in blocks of rows and of depth. Their packed inputs (8 MiB, with Strassen 14 MiB) are read
// again for each block of columns, from the third-level cache.
constexpr int64_t kPackedRows = 1008, kPackedDepth = 2048;
// Packed inputs of different products take equal room, so that one's memory serves the next.
constexpr int64_t kPackedUnit = int64_t{1} << 20;

// Products of equal sizes: all inputs are packed first, then each thread takes some columns of all products.
void run(const kernels::Quarters<float>& input, kernels::Matmul matmul, int64_t columns, float* packed) {
  const int64_t panel_rows = kernels::matmul_panel_rows(), panels = (matmul.rows + panel_rows - 1) / panel_rows;
  at::parallel_for(0, panels, 2, [&](int64_t first, int64_t last) {
    kernels::pack_inputs(input, matmul.products, matmul.rows, matmul.depth, first, last, packed);
  });
  matmul.inputs = packed;
  in_shares({columns, kColumns, kMostColumns}, [&](auto&& next_share) {
    const at::Tensor scratch = at::empty({kernels::matmul_scratch_floats()}, at::kFloat);
    while (const auto share = next_share())
      kernels::multiply(matmul, share->first, share->last, scratch.mutable_data_ptr<float>());
  });
}

// One of Strassen's seven products: quadrants by (row half, column half) as 2·row + column; −1: none.
struct Step {
  int a, a2, a_sign;
  int w, w2, w_sign;  // of the weight [out, in]: (output half, input half)
  int c, c2, c2_sign;
  int c_sign;
  bool first;   // the first to reach target c …
  bool first2;  // … and c2
};
constexpr std::array<Step, 7> kStrassen = {{
    {0, 3, +1, 0, 3, +1, 0, 3, +1, +1, true, true},
    {2, 3, +1, 0, -1, 0, 2, 3, -1, +1, true, false},
    {0, -1, 0, 2, 3, -1, 1, 3, +1, +1, true, false},
    {3, -1, 0, 1, 0, -1, 0, 2, +1, +1, false, false},
    {0, 1, +1, 3, -1, 0, 0, 1, +1, -1, false, false},
    {2, 0, -1, 0, 2, +1, 3, -1, 0, +1, false, false},
    {1, 3, -1, 1, 3, +1, 0, -1, 0, +1, false, false},
}};

// Some rows of the inputs and some of their depth: output += inputs · weightᵀ, or written over it where `first`.
struct Block {
  const float* input;
  const char* weight;
  kernels::WeightStorage storage;
  const float* bias;
  float* output;
  int64_t rows, depth, columns, stride;  ///< stride: elements between rows of inputs and of the weight
  bool first;

  const char* weight_at(int64_t row, int64_t k) const {
    const int64_t bytes = storage == kernels::WeightStorage::kFloat32    ? 4
                          : storage == kernels::WeightStorage::kBFloat16 ? 2
                                                                         : 1;
    return weight + bytes * (row * stride + k);
  }
};

void strassen(const Block& block, float* packed) {
  const int64_t half_rows = block.rows / 2, half_depth = block.depth / 2, half_columns = block.columns / 2;
  const auto target = [&](int q, int sign, bool first) -> ProductTarget {
    if (q < 0) return {nullptr, 0, false, nullptr};
    float* data = block.output + (q / 2) * half_rows * block.columns + (q % 2) * half_columns;
    return {data, static_cast<float>(sign), first && block.first,
            block.bias ? block.bias + (q % 2) * half_columns : nullptr};
  };
  std::array<Product, kStrassen.size()> products;
  for (size_t i = 0; i < products.size(); ++i) {
    const Step& step = kStrassen[i];
    products[i] = {{step.a, step.a2, static_cast<float>(step.a_sign)},
                   {step.w, step.w2, static_cast<float>(step.w_sign)},
                   {target(step.c, step.c_sign, step.first), target(step.c2, step.c2_sign, step.first2)}};
  }
  kernels::Quarters<float> input{{}, block.stride};
  kernels::Quarters<void> weight{{}, block.stride};
  for (int q = 0; q < 4; ++q) {
    input.at[q] = block.input + (q / 2) * half_rows * block.stride + (q % 2) * half_depth;
    weight.at[q] = block.weight_at((q / 2) * half_columns, (q % 2) * half_depth);
  }
  run(input, {products, nullptr, half_rows, half_depth, block.storage, weight, block.columns}, half_columns, packed);
}

void directly(const Block& block, float* packed) {
  const Product product{{0, -1, 0}, {0, -1, 0}, {{block.output, 1, block.first, block.bias}, {nullptr, 0, false, nullptr}}};
  run({{block.input}, block.stride},
      {{&product, 1}, nullptr, block.rows, block.depth, block.storage, {{block.weight}, block.stride}, block.columns},
      block.columns, packed);
}

// The product of rows with a float weight, written to `output`.
void multiply_floats(const at::Tensor& input, const at::Tensor& weight, const float* bias, const at::Tensor& output) {
  const int64_t rows = input.size(0), depth = input.size(1), columns = weight.size(0);
  const bool large =
      rows >= kStrassenRows && std::min(depth, columns) >= kStrassenSide && depth % 2 == 0 && columns % 2 == 0;
  // Strassen's operands: seven quarters.
  const int64_t halves = large ? 2 : 1, most_depth = part_of(depth, kPackedDepth, 128);
  const int64_t products = large ? static_cast<int64_t>(kStrassen.size()) : 1;
  const int64_t most_rows = part_of(rows, kPackedRows, 2 * kernels::matmul_panel_rows());
  const int64_t floats =
      products * kernels::packed_input_floats((most_rows + halves - 1) / halves, (most_depth + halves - 1) / halves);
  const at::Tensor packed =
      at::empty({floats < kPackedUnit ? floats : (floats + kPackedUnit - 1) / kPackedUnit * kPackedUnit}, at::kFloat);
  for (int64_t row = 0; row < rows; row += most_rows) {
    for (int64_t k = 0; k < depth; k += most_depth) {
      Block block{input.const_data_ptr<float>() + row * depth + k,
                  static_cast<const char*>(weight.const_data_ptr()),
                  storage_of(weight),
                  bias,
                  output.mutable_data_ptr<float>() + row * columns,
                  std::min(most_rows, rows - row),
                  std::min(most_depth, depth - k),
                  columns,
                  depth,
                  k == 0};
      block.weight = block.weight_at(0, k);
      if (large && block.rows > 1) {
        Block even = block;
        even.rows = block.rows / 2 * 2;
        strassen(even, packed.mutable_data_ptr<float>());
        block.input += even.rows * depth;
        block.output += even.rows * columns;
        block.rows -= even.rows;
      }
      if (block.rows > 0) directly(block, packed.mutable_data_ptr<float>());
    }
  }
}

void multiply_int8(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& scales, const float* bias,
                   const at::Tensor& output) {
  const int64_t rows = input.size(0), depth = input.size(1), columns = weight.size(0);
  const int64_t panel_rows = kernels::matmul_panel_rows(), panels = (rows + panel_rows - 1) / panel_rows;
  const at::Tensor packed = at::empty({kernels::packed_int8_bytes(rows, depth)}, at::kByte),
                   row_scales = at::empty({rows}, at::kFloat);
  const auto scratch = [&] { return at::empty({kernels::matmul_int8_scratch_bytes(depth)}, at::kByte); };
  at::parallel_for(0, panels, 4, [&](int64_t first, int64_t last) {
    kernels::pack_int8_inputs(input.const_data_ptr<float>(), rows, depth, first, last, packed.mutable_data_ptr<uint8_t>(),
                              row_scales.mutable_data_ptr<float>(), scratch().mutable_data_ptr<uint8_t>());
  });
  const kernels::MatmulInt8 matmul{packed.const_data_ptr<uint8_t>(),
                                   row_scales.const_data_ptr<float>(),
                                   rows,
                                   depth,
                                   weight.const_data_ptr<int8_t>(),
                                   scales.const_data_ptr<float>(),
                                   bias,
                                   output.mutable_data_ptr<float>(),
                                   columns};
  in_shares({columns, kColumns, kMostColumns}, [&](auto&& next_share) {
    const at::Tensor own = scratch();
    while (const auto share = next_share())
      kernels::multiply(matmul, share->first, share->last, own.mutable_data_ptr<uint8_t>());
  });
}

}  // namespace

bool takes_matmul(const at::Tensor& input, const at::Tensor& weight) {
  const auto stored = weight.scalar_type();
  return input.is_cpu() && weight.is_cpu() && weight.dim() == 2 && weight.is_contiguous() &&
         input.scalar_type() == at::kFloat &&
         (stored == at::kFloat || stored == at::kBFloat16 || stored == at::kChar || stored == at::kFloat8_e4m3fn) &&
         input.numel() > kFewRows * std::max<int64_t>(weight.size(1), 1);
}

int64_t int8_input_levels() {
  return kernels::matmul_int8_levels();
}

at::Tensor matmul(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& bias) {
  const int64_t columns = weight.size(0), depth = weight.size(1);
  const bool fits = input.dim() > 0 && input.size(-1) == depth && (!bias.defined() || bias.numel() == columns) &&
                    (scales.defined() ? scales.numel() == columns : weight.scalar_type() != at::kChar);
  if (!fits || depth == 0) {
    std::ostringstream got;
    got << input.sizes() << " and " << weight.sizes();
    throw Error(ErrorKind::kArgument, {.place = "matmul",
                                       .what = "the shapes do not fit",
                                       .expected = "x [..., in], weight [out, in], scales and bias [out]",
                                       .got = got.str()});
  }
  const Counted counted("orrery::matmul", {input, weight});
  const at::Tensor rows = input.reshape({-1, depth}).contiguous();
  const at::Tensor added = bias.defined() ? bias.to(at::kFloat).contiguous() : bias;
  const float* added_data = added.defined() ? added.const_data_ptr<float>() : nullptr;
  auto shape = input.sizes().vec();
  shape.back() = columns;
  if (uses_tiles()) {
    const at::Tensor factors = scales.defined() ? scales.to(at::kFloat).contiguous() : scales;
    return counted.done(tile_matmul(rows, weight, factors, added).view(shape));
  }
  at::Tensor output = at::empty({rows.size(0), columns}, rows.options());
  if (weight.scalar_type() == at::kChar) {
    multiply_int8(rows, weight, scales, added_data, output);
  } else if (scales.defined()) {
    // Strassen's sums mix outputs, whose scales differ: they come afterwards.
    multiply_floats(rows, weight, nullptr, output);
    output.mul_(scales);
    if (added.defined()) output.add_(added);
  } else {
    multiply_floats(rows, weight, added_data, output);
  }
  return counted.done(output.view(shape));
}

}  // namespace orrery::ops
