#pragma once

#include <ATen/core/Tensor.h>

namespace orrery::layers {

/// softmax(q kᵀ / √D + mask) v for heads [B,N,heads,D] (k and v may have another N, or fewer heads that divide those of q), joined to
/// [B,N,heads·D]. `mask` is undefined, boolean (true = look) or added, and broadcasts to [B,heads,N,M].
/// `causal`: token i looks at tokens 0…i only.
at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const at::Tensor& mask = {},
                     bool causal = false);

/// [B,N,heads·D] → [B,N,heads,D]
at::Tensor split_heads(const at::Tensor& tokens, int64_t heads);

}  // namespace orrery::layers
