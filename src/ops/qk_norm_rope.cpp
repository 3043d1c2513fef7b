#include "ops/qk_norm_rope.h"

#include <ATen/ATen.h>

#include "kernels/qk_norm_rope.h"
#include "ops/dispatch.h"

namespace orrery::ops {

at::Tensor qk_norm_rope(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& cos, const at::Tensor& sin,
                        const QkNormRopeForm& form) {
  Operands operands("qk_norm_rope");
  operands.first("x", x, {at::kFloat, at::kBFloat16, at::kHalf})
      .also("x", x, x.scalar_type(), {-1, -1, -1, -1})
      .rows("x", x);
  const int64_t batch = x.size(0), tokens = x.size(1), heads = x.size(2), width = x.size(3);
  operands.require(width % 4 == 0, "x", "must have heads of a multiple of 4 channels", "[B, N, heads, 4 n]",
                   std::to_string(width));
  operands.require(heads <= 1 || x.stride(2) == width, "x", "must have the heads of a token side by side",
                   "a stride of " + std::to_string(width), std::to_string(x.stride(2)));
  operands.aligned("x", x, 2);
  kernels::QkNormRope p;
  if (weight.defined()) {
    if (form.over_all_heads)
      operands.also("weight", weight, at::kFloat, {heads, width});
    else
      operands.also("weight", weight, at::kFloat, {width});
    operands.contiguous("weight", weight);
    p.weight = weight.const_data_ptr<float>();
  }
  operands.require(cos.defined() == sin.defined(), "sin", "must come with cos", "both or neither", "one");
  if (cos.defined()) {
    operands.also("cos", cos, at::kFloat, {tokens, width / 2}).contiguous("cos", cos).aligned("cos", cos, 2);
    operands.also("sin", sin, at::kFloat, {tokens, width / 2}).contiguous("sin", sin).aligned("sin", sin, 2);
    p.cos = cos.const_data_ptr<float>();
    p.sin = sin.const_data_ptr<float>();
  }
  const at::Tensor out = form.heads_first ? at::empty({batch, heads, tokens, width}, x.options())
                                          : at::empty({batch, tokens, heads, width}, x.options());
  p.type = number_of(x.scalar_type());
  p.over_all_heads = form.over_all_heads;
  p.neighbours = form.neighbours;
  p.epsilon = static_cast<float>(form.epsilon);
  p.batch = batch;
  p.tokens = tokens;
  p.heads = heads;
  p.width = width;
  p.x = x.const_data_ptr();
  p.x_batch = x.stride(0);
  p.x_token = x.stride(1);
  p.out = out.mutable_data_ptr();
  p.out_batch = out.stride(0);
  p.out_token = out.stride(form.heads_first ? 2 : 1);
  p.out_head = out.stride(form.heads_first ? 1 : 2);
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_qk_norm_rope", p);
  else
    spread(batch * tokens, 16, [&](int64_t begin, int64_t end) { kernels::qk_norm_rope_cpu(p, begin, end); });
  return out;
}

}  // namespace orrery::ops
