#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace orrery::ops {

/// Keys and values of a stream, in pages of a pool that several streams may share. Of each sequence the first `sink` tokens
/// stay; later ones go round a ring of the remaining slots of its pages: token j ≥ sink is in slot sink + (j − sink) mod
/// ring.
struct PagedKeys {
  at::Tensor keys;    ///< [pages, page_tokens, kv_heads, D], as the projection made them
  at::Tensor values;  ///< the same
  at::Tensor table;   ///< int32 [B, pages of a sequence]: which page is its first, second, …
  int64_t sink = 0;
  int64_t length = 0;  ///< tokens written so far, the queries' own included
};

/// The number of tokens that attention sees of a stream: the sink and the last `window` of the others.
int64_t visible_tokens(const PagedKeys& cache, int64_t window);

/// softmax(q kᵀ / √D) v of query [B,N,heads,D] over the visible tokens of the cache, all of them for each query, in their
/// order. Keys are turned when they are read: visible key i by row i of cos and sin, float32 [visible, D/2] (undefined: not
/// turned); `neighbours` as in qk_norm_rope. heads is a multiple of kv_heads. On the GPU bfloat16 or float16 and D 64 or
/// 128; on the CPU float32 too. Returns [B,N,heads,D]. Throws Error(kArgument) naming the operand.
at::Tensor paged_attention(const at::Tensor& query, const PagedKeys& cache, int64_t window, const at::Tensor& cos,
                           const at::Tensor& sin, bool neighbours);

/// Pages that lie each where they like, as a cache fills them one after the other: key and value pages
/// [B,kv_heads,page_tokens,D] of one size, the channels side by side. The tensors must outlive it.
struct PageList {
  at::Tensor key_pages, value_pages;  ///< int64 [B, pages] on the pages' device: elements from the first page to each
  const void* first_key = nullptr;
  const void* first_value = nullptr;
  at::ScalarType type = at::kFloat;
  int64_t kv_heads = 0, page_tokens = 0, width = 0, token = 0, head = 0;  ///< sizes, and the strides of tokens and heads
};
/// Throws Error(kArgument) where they are not alike.
PageList list_of_pages(const std::vector<at::Tensor>& keys, const std::vector<at::Tensor>& values);

/// The same over the first `length` tokens of a list of pages, neither turned nor windowed.
at::Tensor paged_attention(const at::Tensor& query, const PageList& pages, int64_t length);

}  // namespace orrery::ops
