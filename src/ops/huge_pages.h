#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>

namespace orrery::ops {

/// Memory of the system's own, in huge pages where it has them to give: what is read from end to end for each frame, or
/// written in some hundred streams at once, then misses no page. Throws std::bad_alloc.
class HugePages {
 public:
  explicit HugePages(size_t bytes);
  ~HugePages();
  HugePages(const HugePages&) = delete;
  HugePages& operator=(const HugePages&) = delete;

  /// Aligned to a huge page.
  char* data() const { return data_; }

 private:
  void* mapped_;
  size_t size_;  ///< of what is mapped
  char* data_;
};

/// A tensor in huge pages that it shares with those of the calls before and after: for the weights of small networks, each
/// of which is smaller than a page.
at::Tensor empty_in_huge_pages(at::IntArrayRef sizes, at::ScalarType dtype);
/// The same numbers, dense, in such a tensor.
at::Tensor in_huge_pages(const at::Tensor& numbers);

}  // namespace orrery::ops
