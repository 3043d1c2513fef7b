#include "ops/norm_silu.h"

#include <ATen/Parallel.h>
#include <ATen/ops/mul.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <vector>

#include "kernels/norm_silu.h"
#include "orrery/error.h"

namespace orrery::ops {

namespace {

void check(const char* op, const at::Tensor& x, const at::Tensor& gamma, const at::Tensor& y) {
  const auto dense = [](const at::Tensor& t) {
    return t.device().is_cpu() && t.scalar_type() == at::kFloat && t.is_contiguous();
  };
  if (x.dim() > 0 && dense(x) && dense(y) && y.sizes() == x.sizes() && gamma.sizes() == x.sizes().slice(x.dim() - 1)) return;
  std::ostringstream got;
  got << x.scalar_type() << " " << x.sizes() << ", weight " << gamma.sizes() << ", into " << y.scalar_type() << " "
      << y.sizes();
  throw Error(ErrorKind::kArgument, {.place = op,
                                     .what = "takes another kind of tensor",
                                     .expected = "contiguous float32 [..,C] on the CPU, weight [C]",
                                     .got = got.str()});
}

int64_t rows_at_least(int64_t channels) {
  return std::max<int64_t>(1, 32768 / channels);
}

}  // namespace

void l2_norm_silu(const at::Tensor& x, const at::Tensor& gamma, const at::Tensor& y) {
  check("l2_norm_silu", x, gamma, y);
  if (x.numel() == 0) return;
  const int64_t channels = x.size(-1);
  const at::Tensor scale = gamma.to(at::kFloat).contiguous();
  at::parallel_for(0, x.numel() / channels, rows_at_least(channels), [&](int64_t begin, int64_t end) {
    kernels::l2_norm_silu(x.const_data_ptr<float>(), scale.const_data_ptr<float>(), channels, begin, end,
                          y.data_ptr<float>());
  });
}

void frame_norm_silu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double epsilon,
                     const at::Tensor& y) {
  check("frame_norm_silu", x, weight, y);
  check("frame_norm_silu", x, bias, y);
  if (x.numel() == 0) return;
  constexpr int64_t kPiece = 65536;  // values summed by one thread: the result does not depend on their number
  const int64_t channels = x.size(-1), values = x.numel() / x.size(0), pieces = (values + kPiece - 1) / kPiece;
  std::vector<kernels::Moments> parts(static_cast<size_t>(pieces));
  for (int64_t frame = 0; frame < x.size(0); ++frame) {
    const float* from = x.const_data_ptr<float>() + frame * values;
    at::parallel_for(0, pieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        parts[i] = kernels::moments(from, i * kPiece, std::min(values, (i + 1) * kPiece));
    });
    double sum = 0, squares = 0;
    for (const kernels::Moments& part : parts) {
      sum += part.sum;
      squares += part.squares;
    }
    const double count = static_cast<double>(values), mean = sum / count;
    const double inverse = 1 / std::sqrt(std::max(0.0, squares / count - mean * mean) + epsilon);
    const at::Tensor scale = at::mul(weight.to(at::kFloat), inverse), shift = bias.to(at::kFloat).contiguous();
    at::parallel_for(0, values / channels, rows_at_least(channels), [&](int64_t begin, int64_t end) {
      kernels::affine_silu(from, static_cast<float>(mean), scale.const_data_ptr<float>(), shift.const_data_ptr<float>(),
                           channels, begin, end, y.data_ptr<float>() + frame * values);
    });
  }
}

}  // namespace orrery::ops
