#include "ops/paged_attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "kernels/paged_attention.h"
#include "ops/dispatch.h"

namespace orrery::ops {
namespace {

int64_t window_begin(const PagedKeys& cache, int64_t window) {
  return std::max(cache.sink, cache.length - window);
}

void check_table(Operands& operands, const PagedKeys& cache) {
  // A wrong page is a read outside the pool. On the GPU the check would stop the stream; who fills the table checks it
  // there.
  if (!cache.table.is_cpu() || cache.table.numel() == 0) return;
  const int64_t least = cache.table.min().item<int64_t>(), most = cache.table.max().item<int64_t>();
  operands.require(least >= 0 && most < cache.keys.size(0), "table", "names pages that the pool does not have",
                   "0 to " + std::to_string(cache.keys.size(0) - 1), std::to_string(least) + " to " + std::to_string(most));
}

}  // namespace

int64_t visible_tokens(const PagedKeys& cache, int64_t window) {
  return std::min(cache.sink, cache.length) + std::max<int64_t>(0, cache.length - window_begin(cache, window));
}

at::Tensor paged_attention(const at::Tensor& query, const PagedKeys& cache, int64_t window, const at::Tensor& cos,
                           const at::Tensor& sin, bool neighbours) {
  Operands operands("paged_attention");
  operands.first("query", query, {at::kFloat, at::kBFloat16, at::kHalf});
  const at::ScalarType type = query.scalar_type();
  operands.also("query", query, type, {-1, -1, -1, -1}).rows("query", query);
  const int64_t batch = query.size(0), tokens = query.size(1), heads = query.size(2), width = query.size(3);
  operands.require(heads <= 1 || query.stride(2) == width, "query", "must have the heads of a token side by side",
                   "a stride of " + std::to_string(width), std::to_string(query.stride(2)));
  operands.also("keys", cache.keys, type, {-1, -1, -1, width}).contiguous("keys", cache.keys);
  operands.also("values", cache.values, type, cache.keys.sizes().vec()).contiguous("values", cache.values);
  operands.also("table", cache.table, at::kInt, {batch, -1}).contiguous("table", cache.table);
  const int64_t kv_heads = cache.keys.size(2), capacity = cache.table.size(1) * cache.keys.size(1);
  operands.require(width % 2 == 0, "query", "must have an even head size", "an even number", std::to_string(width));
  operands.require(kv_heads > 0 && heads % kv_heads == 0, "query", "must have a multiple of the cache's heads",
                   "a multiple of " + std::to_string(kv_heads), std::to_string(heads));
  operands.require(cache.sink >= 0 && cache.sink < capacity, "sink", "must leave room for a ring",
                   "less than " + std::to_string(capacity), std::to_string(cache.sink));
  operands.require(window >= 1 && std::min(window, cache.length - cache.sink) <= capacity - cache.sink, "window",
                   "reaches back to tokens that the ring no longer has", "at most " + std::to_string(capacity - cache.sink),
                   std::to_string(window));
  const int64_t visible = visible_tokens(cache, window);
  operands.require(visible > 0 || tokens == 0, "length", "must be that of a cache with tokens in it", "at least 1",
                   std::to_string(cache.length));
  operands.require(!operands.on_gpu() || (type != at::kFloat && (width == 64 || width == 128)), "query",
                   "has no kernel on the GPU", "bfloat16 or float16 with heads of 64 or 128",
                   std::string(at::toString(type)) + " with heads of " + std::to_string(width));
  check_table(operands, cache);

  const at::Tensor out = at::empty({batch, tokens, heads, width}, query.options());
  kernels::PagedAttention p;
  operands.require(cos.defined() == sin.defined(), "sin", "must come with cos", "both or neither", "one");
  if (cos.defined()) {
    operands.also("cos", cos, at::kFloat, {visible, width / 2}).contiguous("cos", cos);
    operands.also("sin", sin, at::kFloat, {visible, width / 2}).contiguous("sin", sin);
    p.cos = cos.const_data_ptr<float>();
    p.sin = sin.const_data_ptr<float>();
  }
  p.type = number_of(type);
  p.batch = batch;
  p.queries = tokens;
  p.heads = heads;
  p.kv_heads = kv_heads;
  p.width = width;
  p.query = query.const_data_ptr();
  p.query_batch = query.stride(0);
  p.query_token = query.stride(1);
  p.keys = cache.keys.const_data_ptr();
  p.values = cache.values.const_data_ptr();
  p.table = cache.table.const_data_ptr<int32_t>();
  p.table_stride = cache.table.size(1);
  p.page_tokens = cache.keys.size(1);
  p.sink = cache.sink;
  p.ring = capacity - cache.sink;
  p.window_begin = window_begin(cache, window);
  p.visible = visible;
  p.neighbours = neighbours;
  p.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(width)));
  p.out = out.mutable_data_ptr();
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_paged_attention", p);
  else
    spread(batch * tokens * heads, 1, [&](int64_t begin, int64_t end) { kernels::paged_attention_cpu(p, begin, end); });
  return out;
}

}  // namespace orrery::ops
