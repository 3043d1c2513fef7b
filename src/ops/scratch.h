#pragma once

#include <ATen/ops/empty.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

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
      return;
    }
    constexpr std::size_t kPage = std::size_t{2} << 20;
    size_ = (static_cast<std::size_t>(floats) * sizeof(float) + kPage - 1) / kPage * kPage + kPage;  // one for the alignment
    mapped_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped_ == MAP_FAILED) throw std::bad_alloc();
    madvise(mapped_, size_, MADV_HUGEPAGE);  // a wish: refused where there are none
    const auto address = reinterpret_cast<std::uintptr_t>(mapped_);
    data_ = reinterpret_cast<float*>((address + kPage - 1) / kPage * kPage);
  }
  ~Scratch() {
    if (size_ > 0) munmap(mapped_, size_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* data() const { return data_; }

 private:
  at::Tensor kept_;
  void* mapped_ = nullptr;
  std::size_t size_ = 0;  ///< of what is mapped
  float* data_;
};

}  // namespace orrery::ops
