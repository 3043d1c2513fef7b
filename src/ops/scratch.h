#pragma once

#include <ATen/ops/empty.h>
#include <c10/core/CPUAllocator.h>

#include <cstdint>
#include <memory>

#include "ops/huge_pages.h"

namespace orrery::ops {

/// Memory for a kernel, of huge pages where the system has them to give: transforms that write some hundred streams at once
/// then miss no page (10 to 15 % of a Winograd convolution). Under keep_tensor_pages(), or any allocator but LibTorch's own,
/// it is a tensor's, so that one convolution's serves the next: pages that the system has to clear anew were a tenth of a
/// decoder's time. Else it comes from the system and goes straight back, and leaves no holes in the heap.
class Scratch {
 public:
  explicit Scratch(int64_t floats) {
    if (c10::GetCPUAllocator() != c10::GetDefaultCPUAllocator()) {
      kept_ = at::empty({floats}, at::kFloat);
      data_ = kept_.mutable_data_ptr<float>();
    } else {
      pages_ = std::make_unique<HugePages>(static_cast<size_t>(floats) * sizeof(float));
      data_ = reinterpret_cast<float*>(pages_->data());
    }
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* data() const { return data_; }

 private:
  at::Tensor kept_;
  std::unique_ptr<HugePages> pages_;
  float* data_;
};

}  // namespace orrery::ops
