#include "ops/fsq.h"

#include <ATen/ATen.h>

#include <cmath>

#include "kernels/fsq.h"
#include "ops/dispatch.h"

namespace orrery::ops {
namespace {

int64_t put_levels(Operands& operands, const std::vector<int64_t>& levels, kernels::Fsq& p) {
  operands.require(!levels.empty() && levels.size() <= 8, "levels", "must be one to eight numbers", "1 to 8",
                   std::to_string(levels.size()));
  int64_t vocabulary = 1;
  p.dims = static_cast<int>(levels.size());
  for (int i = 0; i < p.dims; ++i) {
    operands.require(levels[i] >= 2 && levels[i] <= 65536, "levels", "must each be at least 2", "2 to 65536",
                     std::to_string(levels[i]));
    vocabulary *= levels[i];
    operands.require(vocabulary <= int64_t{1} << 31, "levels", "make more codes than int32 can count", "2147483648",
                     std::to_string(vocabulary));
    // In float32, as the reference computes them: the range is a little wider than the levels, so that the outermost are
    // reached, and even counts are shifted by half a level.
    p.levels[i] = static_cast<int>(levels[i]);
    p.half_range[i] = static_cast<float>(levels[i] - 1) * static_cast<float>(1 + 1e-3) / 2;
    p.offset[i] = levels[i] % 2 == 0 ? 0.5f : 0.0f;
    p.shift[i] = std::atanh(p.offset[i] / p.half_range[i]);
  }
  return vocabulary;
}

void run(const Operands& operands, const kernels::Fsq& p) {
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_fsq", p);
  else
    spread(p.rows, 4096, [&](int64_t begin, int64_t end) { kernels::fsq_cpu(p, begin, end); });
}

}  // namespace

std::pair<at::Tensor, at::Tensor> fsq_quantize(const at::Tensor& z, const std::vector<int64_t>& levels) {
  Operands operands("fsq_quantize");
  kernels::Fsq p;
  put_levels(operands, levels, p);
  operands.first("z", z, {at::kFloat}).also("z", z, at::kFloat, {-1, p.dims});
  const at::Tensor codes = at::empty_like(z), indices = at::empty({z.size(0)}, z.options().dtype(at::kInt));
  p.rows = z.size(0);
  p.z = z.const_data_ptr<float>();
  p.z_row = z.stride(0);
  p.z_dim = z.stride(1);
  p.codes = codes.mutable_data_ptr<float>();
  p.codes_row = codes.stride(0);
  p.codes_dim = codes.stride(1);
  p.indices = indices.mutable_data_ptr<int32_t>();
  run(operands, p);
  return {codes, indices};
}

at::Tensor fsq_codes(const at::Tensor& indices, const std::vector<int64_t>& levels) {
  Operands operands("fsq_codes");
  kernels::Fsq p;
  const int64_t vocabulary = put_levels(operands, levels, p);
  operands.first("indices", indices, {at::kInt}).also("indices", indices, at::kInt, {-1}).contiguous("indices", indices);
  if (!operands.on_gpu() && indices.numel() > 0) {
    const int64_t least = indices.min().item<int64_t>(), most = indices.max().item<int64_t>();
    operands.require(least >= 0 && most < vocabulary, "indices", "are not all in the vocabulary",
                     "0 to " + std::to_string(vocabulary - 1), std::to_string(least < 0 ? least : most));
  }
  const at::Tensor codes = at::empty({indices.size(0), p.dims}, indices.options().dtype(at::kFloat));
  p.rows = indices.size(0);
  p.codes = codes.mutable_data_ptr<float>();
  p.codes_row = codes.stride(0);
  p.codes_dim = codes.stride(1);
  p.indices = const_cast<int32_t*>(indices.const_data_ptr<int32_t>());
  run(operands, p);
  return codes;
}

}  // namespace orrery::ops
