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

void check_query(Operands& operands, const at::Tensor& query) {
  operands.first("query", query, {at::kFloat, at::kBFloat16, at::kHalf});
  const at::ScalarType type = query.scalar_type();
  operands.also("query", query, type, {-1, -1, -1, -1}).rows("query", query);
  const int64_t width = query.size(3);
  operands.require(query.size(2) <= 1 || query.stride(2) == width, "query", "must have the heads of a token side by side",
                   "a stride of " + std::to_string(width), std::to_string(query.stride(2)));
  operands.require(width % 2 == 0, "query", "must have an even head size", "an even number", std::to_string(width));
  operands.require(!operands.on_gpu() || (type != at::kFloat && (width == 64 || width == 128)), "query",
                   "has no kernel on the GPU", "bfloat16 or float16 with heads of 64 or 128",
                   std::string(at::toString(type)) + " with heads of " + std::to_string(width));
  operands.aligned("query", query, 8);
}

// What both kinds of pages have in common; `p` knows the rest.
at::Tensor attended(Operands& operands, kernels::PagedAttention p, const at::Tensor& query) {
  operands.require(p.kv_heads > 0 && query.size(2) % p.kv_heads == 0, "query", "must have a multiple of the cache's heads",
                   "a multiple of " + std::to_string(p.kv_heads), std::to_string(query.size(2)));
  operands.require(p.visible > 0 || query.size(1) == 0, "length", "must be that of a cache with tokens in it", "at least 1",
                   std::to_string(p.visible));
  const at::Tensor out = at::empty(query.sizes(), query.options());
  p.type = number_of(query.scalar_type());
  p.batch = query.size(0);
  p.queries = query.size(1);
  p.heads = query.size(2);
  p.width = query.size(3);
  p.query = query.const_data_ptr();
  p.query_batch = query.stride(0);
  p.query_token = query.stride(1);
  p.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(p.width)));
  p.out = out.mutable_data_ptr();
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_paged_attention", p);
  else
    spread(p.batch * p.queries * p.heads, 1,
           [&](int64_t begin, int64_t end) { kernels::paged_attention_cpu(p, begin, end); });
  return out;
}

}  // namespace

int64_t visible_tokens(const PagedKeys& cache, int64_t window) {
  return std::min(cache.sink, cache.length) + std::max<int64_t>(0, cache.length - window_begin(cache, window));
}

at::Tensor paged_attention(const at::Tensor& query, const PagedKeys& cache, int64_t window, const at::Tensor& cos,
                           const at::Tensor& sin, bool neighbours) {
  Operands operands("paged_attention");
  check_query(operands, query);
  const at::ScalarType type = query.scalar_type();
  const int64_t width = query.size(3);
  operands.also("keys", cache.keys, type, {-1, -1, -1, width}).contiguous("keys", cache.keys);
  operands.also("values", cache.values, type, cache.keys.sizes().vec()).contiguous("values", cache.values);
  operands.also("table", cache.table, at::kInt, {query.size(0), -1}).contiguous("table", cache.table);
  operands.aligned("keys", cache.keys, 8).aligned("values", cache.values, 8);
  const int64_t capacity = cache.table.size(1) * cache.keys.size(1);
  operands.require(cache.sink >= 0 && cache.sink < capacity, "sink", "must leave room for a ring",
                   "less than " + std::to_string(capacity), std::to_string(cache.sink));
  operands.require(window >= 1 && std::min(window, cache.length - cache.sink) <= capacity - cache.sink, "window",
                   "reaches back to tokens that the ring no longer has", "at most " + std::to_string(capacity - cache.sink),
                   std::to_string(window));
  check_table(operands, cache);

  kernels::PagedAttention p;
  p.visible = visible_tokens(cache, window);
  operands.require(cos.defined() == sin.defined(), "sin", "must come with cos", "both or neither", "one");
  if (cos.defined()) {
    operands.also("cos", cos, at::kFloat, {p.visible, width / 2}).contiguous("cos", cos);
    operands.also("sin", sin, at::kFloat, {p.visible, width / 2}).contiguous("sin", sin);
    p.cos = cos.const_data_ptr<float>();
    p.sin = sin.const_data_ptr<float>();
  }
  const at::Tensor pages = cache.table.to(at::kLong).mul_(cache.keys.stride(0));
  p.kv_heads = cache.keys.size(2);
  p.keys = cache.keys.const_data_ptr();
  p.values = cache.values.const_data_ptr();
  p.key_pages = p.value_pages = pages.const_data_ptr<int64_t>();
  p.table_stride = cache.table.size(1);
  p.page_tokens = cache.keys.size(1);
  p.page_token = cache.keys.stride(1);
  p.page_head = cache.keys.stride(2);
  p.sink = cache.sink;
  p.ring = capacity - cache.sink;
  p.window_begin = window_begin(cache, window);
  p.neighbours = neighbours;
  return attended(operands, p, query);
}

PageList list_of_pages(const std::vector<at::Tensor>& keys, const std::vector<at::Tensor>& values) {
  Operands operands("list_of_pages");
  operands.require(!keys.empty() && keys.size() == values.size(), "pages",
                   "must be as many of values as of keys, one at least", std::to_string(keys.size()),
                   std::to_string(values.size()));
  const at::Tensor& like = keys.front();
  operands.first("keys", like, {at::kFloat, at::kBFloat16, at::kHalf})
      .also("keys", like, like.scalar_type(), {-1, -1, -1, -1});
  const int64_t bytes = like.element_size();
  const auto places = [&](const char* name, const std::vector<at::Tensor>& pages) {
    const auto first = reinterpret_cast<intptr_t>(pages.front().const_data_ptr());
    at::Tensor table = at::empty({like.size(0), static_cast<int64_t>(pages.size())}, at::kLong);
    for (size_t i = 0; i < pages.size(); ++i) {
      const at::Tensor& page = pages[i];
      operands.also(name, page, like.scalar_type(), like.sizes().vec()).rows(name, page).aligned(name, page, 8);
      operands.require(page.stride(1) == like.stride(1) && page.stride(2) == like.stride(2), name,
                       "must lie as the first page does",
                       std::to_string(like.stride(1)) + " and " + std::to_string(like.stride(2)),
                       std::to_string(page.stride(1)) + " and " + std::to_string(page.stride(2)));
      const intptr_t begin = reinterpret_cast<intptr_t>(page.const_data_ptr()) - first;
      operands.require(begin % bytes == 0, name, "must lie whole elements from the first page", "0",
                       std::to_string(begin % bytes));
      for (int64_t b = 0; b < like.size(0); ++b)
        table.data_ptr<int64_t>()[b * table.size(1) + static_cast<int64_t>(i)] = begin / bytes + b * page.stride(0);
    }
    return table.to(like.device());
  };
  return {places("keys", keys),  places("values", values),
          like.const_data_ptr(), values.front().const_data_ptr(),
          like.scalar_type(),    like.size(1),
          like.size(2),          like.size(3),
          like.stride(2),        like.stride(1)};
}

at::Tensor paged_attention(const at::Tensor& query, const PageList& pages, int64_t length) {
  Operands operands("paged_attention");
  check_query(operands, query);
  operands.also("pages", pages.key_pages, at::kLong, {query.size(0), -1});
  operands.require(pages.type == query.scalar_type(), "pages", "have the wrong dtype", at::toString(query.scalar_type()),
                   at::toString(pages.type));
  operands.require(pages.width == query.size(3), "pages", "have heads of another size", std::to_string(query.size(3)),
                   std::to_string(pages.width));
  const int64_t capacity = pages.key_pages.size(1) * pages.page_tokens;
  operands.require(length <= capacity, "length", "is more than the pages hold", "at most " + std::to_string(capacity),
                   std::to_string(length));
  kernels::PagedAttention p;
  p.kv_heads = pages.kv_heads;
  p.keys = pages.first_key;
  p.values = pages.first_value;
  p.key_pages = pages.key_pages.const_data_ptr<int64_t>();
  p.value_pages = pages.value_pages.const_data_ptr<int64_t>();
  p.table_stride = pages.key_pages.size(1);
  p.page_tokens = pages.page_tokens;
  p.page_token = pages.token;
  p.page_head = pages.head;
  p.ring = capacity;
  p.visible = length;
  return attended(operands, p, query);
}

}  // namespace orrery::ops
