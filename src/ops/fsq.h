#pragma once

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

namespace orrery::ops {

/// Finite scalar quantisation of z, float32 [rows, d] of any strides, with up to eight levels: codes float32 [rows, d] and
/// indices int32 [rows], the first level the fastest. Throws Error(kArgument) naming the operand.
std::pair<at::Tensor, at::Tensor> fsq_quantize(const at::Tensor& z, const std::vector<int64_t>& levels);

/// The codes [rows, d] of indices int32 [rows]. On the CPU an index outside the vocabulary is an Error(kArgument); on a GPU
/// it is taken modulo the vocabulary, since looking would stop the stream.
at::Tensor fsq_codes(const at::Tensor& indices, const std::vector<int64_t>& levels);

}  // namespace orrery::ops
