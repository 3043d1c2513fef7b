#pragma once

#include <cstdint>

#include "kernels/common/numbers.h"

namespace orrery::kernels {

/// Attention of new tokens over keys and values that lie in pages. Token j of a sequence is kept in slot j while j < sink,
/// else in slot sink + (j − sink) mod ring: a few first tokens stay, the others overwrite the oldest. Slot s is row s mod
/// page_tokens of page table[s / page_tokens]. All queries see the sink and the tokens from window_begin on: `visible` in
/// all. Keys are kept as the projection made them and turned when they are read, visible key i by row i of the angles.
struct PagedAttention {
  Number type = Number::kBFloat16;  ///< of queries, pages and out
  int64_t batch = 0, queries = 0, heads = 0, kv_heads = 0, width = 0;
  const void* query = nullptr;  ///< [batch, queries, heads, width], heads and width side by side
  int64_t query_batch = 0, query_token = 0;
  const void* keys = nullptr;      ///< [pages, page_tokens, kv_heads, width]
  const void* values = nullptr;    ///< as keys
  const int32_t* table = nullptr;  ///< [batch, table_stride]
  int64_t table_stride = 0, page_tokens = 0;
  int64_t sink = 0, ring = 0, window_begin = 0, visible = 0;
  const float* cos = nullptr;  ///< [visible, width / 2]; null: keys are not turned
  const float* sin = nullptr;
  bool neighbours = false;  ///< which channels turn together, as in QkNormRope
  float scale = 1;          ///< of q·k before the softmax
  void* out = nullptr;      ///< [batch, queries, heads, width]
};

/// The row of the pages, counted through all of them, that visible key `i` of a sequence is in.
ORRERY_EVERYWHERE int64_t row_of_visible(const PagedAttention& p, int64_t sequence, int64_t i) {
  const int64_t slot = i < p.sink ? i : p.sink + (p.window_begin + (i - p.sink) - p.sink) % p.ring;
  const int64_t page = slot / p.page_tokens;
  return p.table[sequence * p.table_stride + page] * p.page_tokens + (slot - page * p.page_tokens);
}

/// Rows [begin, end) of batch · queries · heads on the CPU; also in float32.
void paged_attention_cpu(const PagedAttention& p, int64_t begin, int64_t end);

}  // namespace orrery::kernels

/// On the GPU, bfloat16 and float16, width 64 or 128, all rows aligned to 16 bytes; the CUDA error, 0 if there is none.
extern "C" int orrery_cuda_paged_attention(const orrery::kernels::PagedAttention* p, void* stream);
