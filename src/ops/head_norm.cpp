#include "ops/head_norm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <sstream>

#include "kernels/head_norm.h"
#include "orrery/error.h"

namespace orrery::ops {
namespace {

constexpr int64_t kElements = 1 << 15;  // what is worth another thread

bool is_plain(const at::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous();
}

}  // namespace

at::Tensor head_norm(const at::Tensor& x, const at::Tensor& weight, NormedOver over, double eps, const at::Tensor& cos,
                     const at::Tensor& sin, bool neighbours) {
  const int64_t heads = x.dim() == 4 ? x.size(2) : 0, dim = x.dim() == 4 ? x.size(3) : 0;
  const bool per_head = over == NormedOver::kHead;
  const bool turns = cos.defined();
  const auto is_table = [&](const at::Tensor& table) {
    return table.defined() && table.dim() == 2 && table.size(0) == x.size(1) && 2 * table.size(1) == dim;
  };
  if (x.dim() != 4 || !is_plain(x) || (weight.defined() && weight.numel() != (per_head ? dim : heads * dim)) ||
      (turns && !(is_table(cos) && is_table(sin)))) {
    std::ostringstream got;
    got << "x " << x.sizes();
    if (weight.defined()) got << ", weight " << weight.sizes();
    if (turns) got << ", angles " << cos.sizes();
    throw Error(ErrorKind::kArgument,
                {.place = "head_norm",
                 .what = "the shapes do not fit",
                 .expected = "contiguous float32 [B,N,heads,D] on the CPU, weight [D] or [heads·D], angles [N,D/2]",
                 .got = got.str()});
  }
  at::Tensor out = at::empty_like(x);
  if (x.numel() == 0) return out;
  const auto plain = [](const at::Tensor& t) { return t.defined() ? t.to(at::kFloat).contiguous() : t; };
  const auto data = [](const at::Tensor& t) { return t.defined() ? t.const_data_ptr<float>() : nullptr; };
  const at::Tensor weight_data = plain(weight), cos_data = plain(cos), sin_data = plain(sin);
  const kernels::HeadNorm norm{.x = x.const_data_ptr<float>(),
                               .out = out.mutable_data_ptr<float>(),
                               .heads = heads,
                               .dim = dim,
                               .weight = data(weight_data),
                               .per_head = per_head,
                               .epsilon = static_cast<float>(eps),
                               .cos = data(cos_data),
                               .sin = data(sin_data),
                               .tokens = x.size(1),
                               .neighbours = neighbours};
  at::parallel_for(0, x.size(0) * x.size(1), std::max<int64_t>(1, kElements / (heads * dim)),
                   [&](int64_t first, int64_t last) { kernels::head_norm(norm, first, last); });
  return out;
}

at::Tensor gelu_tanh(at::Tensor x) {
  if (!is_plain(x)) return at::gelu(x, "tanh");
  float* data = x.mutable_data_ptr<float>();
  at::parallel_for(0, x.numel(), kElements,
                   [&](int64_t first, int64_t last) { kernels::gelu_tanh(data + first, last - first); });
  return x;
}

}  // namespace orrery::ops
