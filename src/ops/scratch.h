#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace orrery::ops {

/// Uninitialised memory for a kernel, of huge pages where the system has them to give: transforms that write some hundred
/// streams at once then miss no page (10 to 15 % of a Winograd convolution).
class Scratch {
 public:
  explicit Scratch(int64_t floats) {
    constexpr std::size_t kPage = std::size_t{2} << 20;
    const std::size_t bytes = (static_cast<std::size_t>(floats) * sizeof(float) + kPage - 1) / kPage * kPage;
    memory_.reset(static_cast<float*>(std::aligned_alloc(kPage, bytes)));
    if (!memory_) throw std::bad_alloc();
    madvise(memory_.get(), bytes, MADV_HUGEPAGE);  // a wish: refused where there are none
  }
  float* data() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(float* memory) const { std::free(memory); }
  };
  std::unique_ptr<float[], Free> memory_;
};

}  // namespace orrery::ops
