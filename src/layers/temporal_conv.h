#pragma once

#include <ATen/core/Tensor.h>

namespace orrery::layers {

/// Whether temporal_conv takes such a clip: float32 on the CPU, three taps that move a frame at a time.
bool takes_temporal_conv(const at::Tensor& x, int64_t taps, int64_t stride);

/// A convolution of three taps over time alone: y[n] = W0 x[n−2] + W1 x[n−1] + W2 x[n] + b.
/// x [T,B,H,W,I], `past` [2,B,H,W,I] the two frames before it (undefined: the first frame of x stands there),
/// weight [O,I,3], bias [O] → [T,B,H,W,O].
///
/// Two output frames together take four matrix products in place of six (Winograd's F(2,3)), and two where the clip begins,
/// since three equal frames meet the sum of the taps. Rounds to about 1e-6 (relative L2).
at::Tensor temporal_conv(const at::Tensor& past, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace orrery::layers
