#pragma once

#include <ATen/ops/empty.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace orrery::ops {

/// Memory for a kernel, of huge pages where the system has them to give: transforms that write some hundred streams at once
/// then miss no page (10 to 15 % of a Winograd convolution). It is a tensor's, so that keep_tensor_pages() gives it to one
/// convolution after the other: pages that the system has to clear anew were a tenth of a decoder's time.
class Scratch {
 public:
  explicit Scratch(int64_t floats) : memory_(at::empty({floats}, at::kFloat)) {
    constexpr std::uintptr_t kPage = std::uintptr_t{2} << 20;
    const auto begin = reinterpret_cast<std::uintptr_t>(data()),
               end = begin + static_cast<std::size_t>(floats) * sizeof(float);
    const std::uintptr_t first = (begin + kPage - 1) / kPage * kPage, last = end / kPage * kPage;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // a wish: may be refused
  }

  float* data() const { return memory_.mutable_data_ptr<float>(); }

 private:
  at::Tensor memory_;
};

}  // namespace orrery::ops
