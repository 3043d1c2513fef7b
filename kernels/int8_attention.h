#pragma once

#include <cstdint>

#include "kernels/common/numbers.h"

namespace orrery::kernels {

/// Rows of x less a mean, as int8 with one scale a row: values[r] · scale[r] ≈ x[r] − mean. Of a row that is not finite the
/// scale is NaN and the values are 0.
/// x is [batch, tokens, heads, width]; what is written is [batch, heads, tokens, …]; mean float32 [batch, heads, width] or
/// null.
struct QuantizeHeads {
  Number type = Number::kBFloat16;
  int64_t batch = 0, tokens = 0, heads = 0, width = 0;
  const void* x = nullptr;
  int64_t x_batch = 0, x_token = 0;  ///< strides; heads and width side by side
  const float* mean = nullptr;
  int8_t* values = nullptr;
  float* scale = nullptr;
};

/// softmax(factor · q kᵀ) v with int8 queries and keys as QuantizeHeads leaves them. Taking the mean of all keys off each
/// key leaves a softmax as it is and makes keys small: the idea of SageAttention (Zhang et al., 2024).
struct Int8Attention {
  Number type = Number::kBFloat16;  ///< of v and out
  int64_t batch = 0, queries = 0, keys = 0, heads = 0, width = 0;
  const int8_t* query = nullptr;       ///< [batch, heads, queries, width]
  const float* query_scale = nullptr;  ///< [batch, heads, queries]
  const int8_t* key = nullptr;         ///< [batch, heads, keys, width]
  const float* key_scale = nullptr;
  const void* value = nullptr;  ///< [batch, keys, heads, width], heads and width side by side
  int64_t value_batch = 0, value_token = 0;
  float factor = 1;
  void* out = nullptr;  ///< [batch, queries, heads, width]
};

/// Rows [begin, end) of batch · heads · tokens, and of batch · heads · queries, on the CPU; also in float32.
void quantize_heads_cpu(const QuantizeHeads& p, int64_t begin, int64_t end);
void int8_attention_cpu(const Int8Attention& p, int64_t begin, int64_t end);

}  // namespace orrery::kernels

/// On the GPU, bfloat16 and float16, width 64 or 128, rows aligned to 16 bytes; the CUDA error, 0 if there is none.
extern "C" int orrery_cuda_quantize_heads(const orrery::kernels::QuantizeHeads* p, void* stream);
extern "C" int orrery_cuda_int8_attention(const orrery::kernels::Int8Attention* p, void* stream);
