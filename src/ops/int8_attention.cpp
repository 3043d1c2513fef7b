#include "ops/int8_attention.h"

#include <ATen/ATen.h>

#include <cmath>

#include "kernels/int8_attention.h"
#include "ops/dispatch.h"

namespace orrery::ops {
namespace {

void check_heads(Operands& operands, const char* name, const at::Tensor& x) {
  operands.rows(name, x).require(x.size(2) <= 1 || x.stride(2) == x.size(3), name,
                                 "must have the heads of a token side by side", "a stride of " + std::to_string(x.size(3)),
                                 std::to_string(x.stride(2)));
}

struct Quantized {
  at::Tensor values, scale;  // int8 [B,heads,N,D], float32 [B,heads,N]
};

Quantized quantized(const Operands& operands, const at::Tensor& x, const at::Tensor& mean) {
  const int64_t batch = x.size(0), tokens = x.size(1), heads = x.size(2), width = x.size(3);
  Quantized result{at::empty({batch, heads, tokens, width}, x.options().dtype(at::kChar)),
                   at::empty({batch, heads, tokens}, x.options().dtype(at::kFloat))};
  kernels::QuantizeHeads p;
  p.type = number_of(x.scalar_type());
  p.batch = batch;
  p.tokens = tokens;
  p.heads = heads;
  p.width = width;
  p.x = x.const_data_ptr();
  p.x_batch = x.stride(0);
  p.x_token = x.stride(1);
  p.mean = mean.defined() ? mean.const_data_ptr<float>() : nullptr;
  p.values = result.values.mutable_data_ptr<int8_t>();
  p.scale = result.scale.mutable_data_ptr<float>();
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_quantize_heads", p);
  else
    spread(batch * heads * tokens, 64, [&](int64_t begin, int64_t end) { kernels::quantize_heads_cpu(p, begin, end); });
  return result;
}

}  // namespace

at::Tensor int8_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
  Operands operands("int8_attention");
  operands.first("query", query, {at::kFloat, at::kBFloat16, at::kHalf});
  const at::ScalarType type = query.scalar_type();
  operands.also("query", query, type, {-1, -1, -1, -1});
  const int64_t batch = query.size(0), tokens = query.size(1), heads = query.size(2), width = query.size(3);
  operands.also("key", key, type, {batch, -1, heads, width}).also("value", value, type, {batch, key.size(1), heads, width});
  check_heads(operands, "query", query);
  check_heads(operands, "key", key);
  check_heads(operands, "value", value);
  operands.require(key.size(1) > 0, "key", "must have tokens", "at least 1", "0");
  operands.require(!operands.on_gpu() || (type != at::kFloat && (width == 64 || width == 128)), "query",
                   "has no kernel on the GPU", "bfloat16 or float16 with heads of 64 or 128",
                   std::string(at::toString(type)) + " with heads of " + std::to_string(width));
  operands.aligned("value", value, 8);
  const at::Tensor mean = key.to(at::kFloat).mean(1).contiguous();  // [B,heads,D]
  const Quantized q = quantized(operands, query, {}), k = quantized(operands, key, mean);
  const at::Tensor out = at::empty({batch, tokens, heads, width}, query.options());
  kernels::Int8Attention p;
  p.type = number_of(type);
  p.batch = batch;
  p.queries = tokens;
  p.keys = key.size(1);
  p.heads = heads;
  p.width = width;
  p.query = q.values.const_data_ptr<int8_t>();
  p.query_scale = q.scale.const_data_ptr<float>();
  p.key = k.values.const_data_ptr<int8_t>();
  p.key_scale = k.scale.const_data_ptr<float>();
  p.value = value.const_data_ptr();
  p.value_batch = value.stride(0);
  p.value_token = value.stride(1);
  p.factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(width)));
  p.out = out.mutable_data_ptr();
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_int8_attention", p);
  else
    spread(batch * tokens * heads, 1, [&](int64_t begin, int64_t end) { kernels::int8_attention_cpu(p, begin, end); });
  return out;
}

}  // namespace orrery::ops
