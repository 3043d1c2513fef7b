#pragma once

#include <ATen/core/Tensor.h>

#include "orrery/config.h"
#include "orrery/tokenizer.h"

namespace orrery::layers {

/// softmax(q kᵀ / √D + mask) v for heads [B,N,heads,D] (k and v may have another N, or fewer heads that divide those of q),
/// joined to [B,N,heads·D]. `mask` is undefined, boolean (true = look) or added, and broadcasts to [B,heads,N,M]. `causal`:
/// token i looks at tokens 0…i only.
at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const at::Tensor& mask = {},
                     bool causal = false);

/// The same in the form that is asked for. In 8 bits on a device operands of float32 are rounded to bfloat16, heads are of
/// 64 or 128 channels, and liborrery_cuda.so is needed; on the CPU the kernel's plain twin does it, which is not fast.
at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, AttentionForm form);

/// The form that LoadOptions asks the self-attention of a component for; a component that reads this must follow it.
AttentionForm attention_form(const Config& config);

/// `config` with the forms of weights and attention that `asked` asks for: for a component made of another's parts.
Config in_forms_of(const Config& config, const Config& asked);

/// [B,N,heads·D] → [B,N,heads,D]
at::Tensor split_heads(const at::Tensor& tokens, int64_t heads);

}  // namespace orrery::layers
