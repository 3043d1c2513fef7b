#include "ops/tile_matmul.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <optional>

#include "kernels/isa.h"
#include "kernels/tile_matmul.h"
#include "ops/product_parts.h"
#include "ops/scratch.h"
#include "ops/shares.h"

namespace orrery::ops {
namespace {

// Rows and depth of the inputs that are packed at once: 6 MiB, which are read again for each block of columns. Deep blocks
// write the output seldom; two of 32 rows lie in the second-level cache beside the weights.
constexpr int64_t kPackedRows = 1024, kPackedDepth = 1024;
// From so many bytes on memory is taken in huge pages: some hundred small ones do not stay in the processor's table.
constexpr int64_t kHuge = int64_t{2} << 20;

kernels::TileForm form_of(const at::Tensor& weight) {
  switch (weight.scalar_type()) {
    case at::kChar: return kernels::TileForm::kInt8;
    case at::kFloat: return kernels::TileForm::kFloat32;
    default: return kernels::TileForm::kBFloat16;
  }
}

class Memory {
 public:
  explicit Memory(int64_t bytes) {
    if (bytes < kHuge)
      small_ = at::empty({bytes}, at::kByte);
    else
      large_.emplace((bytes + 3) / 4);
  }
  uint8_t* data() const { return large_ ? reinterpret_cast<uint8_t*>(large_->data()) : small_.mutable_data_ptr<uint8_t>(); }

 private:
  at::Tensor small_;
  std::optional<Scratch> large_;
};

}  // namespace

bool uses_tiles() {
  return kernels::has_tiles();
}

at::Tensor tile_matmul(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& bias,
                       kernels::TileMachine machine) {
  const int64_t all_rows = input.size(0), all_depth = input.size(1), columns = weight.size(0);
  const kernels::TileForm form = form_of(weight);
  const bool whole = form == kernels::TileForm::kInt8;  // rows are rounded by their largest element
  const int64_t most_rows = part_of(all_rows, kPackedRows, kernels::kSumSide);
  const int64_t most_depth = whole ? all_depth : part_of(all_depth, kPackedDepth, kernels::tile_depth(form));
  const at::Tensor output = at::empty({all_rows, columns}, input.options());
  const Memory packed(kernels::packed_tile_bytes(form, most_rows, most_depth));
  const at::Tensor row_scales = at::empty({whole ? most_rows : 0}, at::kFloat);
  const auto scratch = [&] { return at::empty({kernels::tile_scratch_bytes(form, most_depth)}, at::kByte); };
  const auto pointer = [](const at::Tensor& t) { return t.defined() ? t.const_data_ptr<float>() : nullptr; };
  for (int64_t row = 0; row < all_rows; row += most_rows)
    for (int64_t k = 0; k < all_depth; k += most_depth) {
      const int64_t rows = std::min(most_rows, all_rows - row), depth = std::min(most_depth, all_depth - k);
      const kernels::TileInputs inputs{form,
                                       input.const_data_ptr<float>() + row * all_depth + k,
                                       all_depth,
                                       rows,
                                       depth,
                                       packed.data(),
                                       row_scales.mutable_data_ptr<float>()};
      const int64_t panels = (rows + kernels::kSumSide - 1) / kernels::kSumSide;
      at::parallel_for(0, panels, 1, [&](int64_t first, int64_t last) {
        kernels::pack_tile_inputs(inputs, first, last, scratch().mutable_data_ptr<uint8_t>());
      });
      const kernels::TileMatmul matmul{form,
                                       packed.data(),
                                       row_scales.const_data_ptr<float>(),
                                       rows,
                                       depth,
                                       storage_of(weight),
                                       static_cast<const char*>(weight.const_data_ptr()) + k * weight.element_size(),
                                       all_depth,
                                       pointer(scales),
                                       pointer(bias),
                                       output.mutable_data_ptr<float>() + row * columns,
                                       columns,
                                       k == 0,
                                       machine};
      const Shares shares{columns, kernels::kSumSide, kernels::tile_columns(form, depth)};
      in_shares(shares, [&](auto&& next_share) {
        const at::Tensor own = scratch();
        while (const auto share = next_share())
          kernels::multiply(matmul, share->first, share->last, own.mutable_data_ptr<uint8_t>());
      });
    }
  return output;
}

}  // namespace orrery::ops
