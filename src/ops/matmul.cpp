#include "ops/matmul.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "kernels/matmul.h"
#include "kernels/matmul_int8.h"
#include "ops/counted.h"
#include "orrery/error.h"

namespace orrery::ops {
namespace {

using kernels::ProductTarget;

// Columns that one thread takes at least: a panel of the widest processors.
constexpr int64_t kColumns = 32;
// So few rows are another kernel's work, which reads the weight once and packs nothing.
constexpr int64_t kFewRows = 8;
// Below these sizes the sums of Strassen's operands cost more than the product that they save. Measured:
// docs/performance.md.
constexpr int64_t kStrassenRows = 256, kStrassenSide = 1024;

// input [rows, depth] · weight [columns, depth]ᵀ, or a quarter of it: the matrices as the kernel wants them.
struct Product {
  kernels::MatrixSum<float> input;
  kernels::MatrixSum<void> weight;
  ProductTarget targets[2];
};

void run(const Product& product, kernels::WeightStorage storage, int64_t rows, int64_t depth, int64_t columns,
         int64_t output_stride, float* packed) {
  const int64_t panel_rows = kernels::matmul_panel_rows(), panels = (rows + panel_rows - 1) / panel_rows;
  at::parallel_for(0, panels, 4, [&](int64_t first, int64_t last) {
    kernels::pack_inputs(product.input, rows, depth, first, last, packed);
  });
  const kernels::Matmul matmul{packed,       rows, depth, storage, product.weight, {product.targets[0], product.targets[1]},
                               output_stride};
  at::parallel_for(0, (columns + kColumns - 1) / kColumns, 1, [&](int64_t first, int64_t last) {
    const at::Tensor scratch = at::empty({kernels::matmul_scratch_floats()}, at::kFloat);
    kernels::multiply(matmul, first * kColumns, std::min(last * kColumns, columns), scratch.mutable_data_ptr<float>());
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

void strassen(const float* input, const void* weight, kernels::WeightStorage storage, const float* bias, float* output,
              int64_t rows, int64_t depth, int64_t columns, float* packed) {
  const int64_t half_rows = rows / 2, half_depth = depth / 2, half_columns = columns / 2;
  const int64_t size = storage == kernels::WeightStorage::kFloat32 ? 4 : 2;
  const auto of_input = [&](int q) { return q < 0 ? nullptr : input + (q / 2) * half_rows * depth + (q % 2) * half_depth; };
  const auto of_weight = [&](int q) -> const void* {
    if (q < 0) return nullptr;
    return static_cast<const char*>(weight) + size * ((q / 2) * half_columns * depth + (q % 2) * half_depth);
  };
  const auto target = [&](int q, int sign, bool first) -> ProductTarget {
    if (q < 0) return {nullptr, 0, false, nullptr};
    float* data = output + (q / 2) * half_rows * columns + (q % 2) * half_columns;
    return {data, static_cast<float>(sign), first, bias ? bias + (q % 2) * half_columns : nullptr};
  };
  for (const Step& step : kStrassen) {
    const Product product{{of_input(step.a), of_input(step.a2), static_cast<float>(step.a_sign), depth},
                          {of_weight(step.w), of_weight(step.w2), static_cast<float>(step.w_sign), depth},
                          {target(step.c, step.c_sign, step.first), target(step.c2, step.c2_sign, step.first2)}};
    run(product, storage, half_rows, half_depth, half_columns, columns, packed);
  }
}

// The product of rows with a float weight, written to `output`.
void multiply_floats(const at::Tensor& input, const at::Tensor& weight, const float* bias, const at::Tensor& output) {
  const int64_t rows = input.size(0), depth = input.size(1), columns = weight.size(0);
  const auto storage =
      weight.scalar_type() == at::kFloat ? kernels::WeightStorage::kFloat32 : kernels::WeightStorage::kBFloat16;
  const float* from = input.const_data_ptr<float>();
  float* to = output.mutable_data_ptr<float>();
  const bool large =
      rows >= kStrassenRows && std::min(depth, columns) >= kStrassenSide && depth % 2 == 0 && columns % 2 == 0;
  const int64_t even = large ? rows / 2 * 2 : 0;  // an odd row is multiplied alone
  const int64_t packed_floats = std::max(large ? kernels::packed_input_floats(even / 2, depth / 2) : 0,
                                         even < rows ? kernels::packed_input_floats(rows - even, depth) : 0);
  const at::Tensor packed = at::empty({packed_floats}, at::kFloat);
  if (large)
    strassen(from, weight.const_data_ptr(), storage, bias, to, even, depth, columns, packed.mutable_data_ptr<float>());
  if (even == rows) return;
  const Product rest{{from + even * depth, nullptr, 0, depth},
                     {weight.const_data_ptr(), nullptr, 0, depth},
                     {{to + even * columns, 1, true, bias}, {nullptr, 0, false, nullptr}}};
  run(rest, storage, rows - even, depth, columns, columns, packed.mutable_data_ptr<float>());
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
  at::parallel_for(0, (columns + kColumns - 1) / kColumns, 1, [&](int64_t first, int64_t last) {
    kernels::multiply(matmul, first * kColumns, std::min(last * kColumns, columns), scratch().mutable_data_ptr<uint8_t>());
  });
}

}  // namespace

bool takes_matmul(const at::Tensor& input, const at::Tensor& weight) {
  const auto stored = weight.scalar_type();
  return input.is_cpu() && weight.is_cpu() && weight.dim() == 2 && weight.is_contiguous() &&
         input.scalar_type() == at::kFloat && (stored == at::kFloat || stored == at::kBFloat16 || stored == at::kChar) &&
         input.numel() > kFewRows * std::max<int64_t>(weight.size(1), 1);
}

at::Tensor matmul(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& bias) {
  const int64_t columns = weight.size(0), depth = weight.size(1);
  const bool fits = input.dim() > 0 && input.size(-1) == depth && (!bias.defined() || bias.numel() == columns) &&
                    (weight.scalar_type() != at::kChar || (scales.defined() && scales.numel() == columns));
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
  const at::Tensor output = at::empty({rows.size(0), columns}, rows.options());
  if (weight.scalar_type() == at::kChar)
    multiply_int8(rows, weight, scales, added_data, output);
  else
    multiply_floats(rows, weight, added_data, output);
  auto shape = input.sizes().vec();
  shape.back() = columns;
  return counted.done(output.view(shape));
}

}  // namespace orrery::ops
