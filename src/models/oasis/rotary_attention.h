#pragma once

#include <ATen/core/Tensor.h>

#include "layers/linear.h"
#include "layers/rotary.h"

namespace orrery::models {

/// Attention with queries, keys and values from one product and turned by rotary angles; both of this family's networks use
/// it, inside a picture and over time.
class RotaryAttention {
 public:
  /// Reads `<qkv>.weight` [3·D,D] (and its bias where `qkv_bias`) and `<out>.weight` [D,D], `<out>.bias`.
  RotaryAttention(const Weights& weights, const char* qkv, const char* out, int64_t width, int64_t heads, bool qkv_bias);

  /// Every token sees every token: [N,S,D] → [N,S,D]
  at::Tensor everywhere(const at::Tensor& tokens, const layers::Rotary& rotary) const;
  /// Token i sees what came before and tokens 0…i: [N,T,D] → [N,T,D]. `past` are the rotated keys and the values of earlier
  /// tokens, [2,N,T',heads,head_dim] or undefined; `seen`, where given, receives them with this call's appended.
  at::Tensor causal(const at::Tensor& tokens, const layers::Rotary& rotary, const at::Tensor& past, at::Tensor* seen) const;

 private:
  struct Heads {
    at::Tensor query, key, value;  // [N,S,heads,head_dim], query and key rotated
  };
  Heads heads_of(const at::Tensor& tokens, const layers::Rotary& rotary) const;

  int64_t heads_;
  layers::Linear qkv, out;
};

/// Angles of a picture's tokens: `frequencies` [F] over rows and columns that run from −1 to 1, in float32 as the reference
/// computes them. [h·w, 2F], filled up to `pairs` with zeros (channels that do not turn).
layers::Rotary picture_rotary(const at::Tensor& frequencies, int64_t height, int64_t width, int64_t pairs);

}  // namespace orrery::models
