#pragma once

#include <ATen/core/Tensor.h>

namespace orrery::weights_detail {

/// A copy of a tensor of the processor's in memory that the device reads by itself (pinned), so that the host need not wait
/// for copy_ or to with non_blocking; LibTorch keeps that memory until the copy is over. `tensor` itself where that is of no
/// use: it is empty, does not lie with the processor, or the device has no such memory.
at::Tensor pinned_for(const at::Tensor& tensor, at::Device device);

}  // namespace orrery::weights_detail
