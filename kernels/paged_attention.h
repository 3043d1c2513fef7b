#pragma once

#include <cstdint>

#include "kernels/common/numbers.h"

namespace orrery::kernels {

/// Attention of new tokens over keys and values that lie in pages. Token j of a sequence is kept in slot j while j < sink,
/// else in slot sink + (j − sink) mod ring: a few first tokens stay, the others overwrite the oldest. Slot s is row s mod
/// page_tokens of page s / page_tokens, and a page lies where it likes. All queries see the sink and the tokens from
/// window_begin on: `visible` in all. Keys are kept as the projection made them and turned when they are read, visible key i
/// by row i of the angles.
struct PagedAttention {
  Number type = Number::kBFloat16;  ///< of queries, pages and out
  int64_t batch = 0, queries = 0, heads = 0, kv_heads = 0, width = 0;
  const void* query = nullptr;  ///< [batch, queries, heads, width], heads and width side by side
  int64_t query_batch = 0, query_token = 0;
  const void* keys = nullptr;            ///< from here pages are counted, in elements
  const void* values = nullptr;          ///< the same
  const int64_t* key_pages = nullptr;    ///< [batch, table_stride]: where the keys of a sequence's pages begin
  const int64_t* value_pages = nullptr;  ///< the same of the values
  int64_t table_stride = 0, page_tokens = 0;
  int64_t page_token = 0, page_head = 0;  ///< strides inside a page, whose channels lie side by side
  int64_t sink = 0, ring = 0, window_begin = 0, visible = 0;
  const float* cos = nullptr;  ///< [visible, width / 2]; null: keys are not turned
  const float* sin = nullptr;
  bool neighbours = false;  ///< which channels turn together, as in QkNormRope
  float scale = 1;          ///< of q·k before the softmax
  void* out = nullptr;      ///< [batch, queries, heads, width]
};

/// Where the channels of visible key `i` of a sequence and head begin, or of its value: counted as `pages` are.
ORRERY_EVERYWHERE int64_t place_of_visible(const PagedAttention& p, const int64_t* pages, int64_t sequence, int64_t kv_head,
                                           int64_t i) {
  const int64_t slot = i < p.sink ? i : p.sink + (p.window_begin + (i - p.sink) - p.sink) % p.ring;
  const int64_t page = slot / p.page_tokens;
  return pages[sequence * p.table_stride + page] + (slot - page * p.page_tokens) * p.page_token + kv_head * p.page_head;
}

/// Rows [begin, end) of batch · queries · heads on the CPU; also in float32.
void paged_attention_cpu(const PagedAttention& p, int64_t begin, int64_t end);

}  // namespace orrery::kernels

/// On the GPU, bfloat16 and float16, width 64 or 128, all rows aligned to 16 bytes; the CUDA error, 0 if there is none.
extern "C" int orrery_cuda_paged_attention(const orrery::kernels::PagedAttention* p, void* stream);
