#include "ops/huge_pages.h"

#include <ATen/ops/from_blob.h>
#include <c10/util/accumulate.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>

namespace orrery::ops {
namespace {

constexpr size_t kPage = size_t{2} << 20, kLine = 64;

size_t rounded_up(size_t bytes, size_t to) {
  return (bytes + to - 1) / to * to;
}

// What tensors share, for as long as one of them is there.
struct Piece {
  explicit Piece(size_t bytes) : size(rounded_up(bytes, kPage)), pages(size) {}
  size_t size, used = 0;
  HugePages pages;
};
std::mutex piece_mutex;
std::weak_ptr<Piece> newest;

}  // namespace

HugePages::HugePages(size_t bytes) : size_(rounded_up(bytes, kPage) + kPage) {  // one for the alignment
  mapped_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped_ == MAP_FAILED) throw std::bad_alloc();
  madvise(mapped_, size_, MADV_HUGEPAGE);  // a wish: refused where there are none
  data_ = reinterpret_cast<char*>(rounded_up(reinterpret_cast<std::uintptr_t>(mapped_), kPage));
}

HugePages::~HugePages() {
  munmap(mapped_, size_);
}

at::Tensor empty_in_huge_pages(at::IntArrayRef sizes, at::ScalarType dtype) {
  const auto count = static_cast<size_t>(c10::multiply_integers(sizes));
  const size_t bytes = rounded_up(count * c10::elementSize(dtype), kLine);
  const std::lock_guard lock(piece_mutex);
  std::shared_ptr<Piece> piece = newest.lock();
  if (!piece || piece->used + bytes > piece->size) newest = piece = std::make_shared<Piece>(std::max(bytes, 2 * kPage));
  char* const data = piece->pages.data() + piece->used;
  piece->used += bytes;
  return at::from_blob(
      data, sizes, [piece](void*) {}, dtype);
}

at::Tensor in_huge_pages(const at::Tensor& numbers) {
  return empty_in_huge_pages(numbers.sizes(), numbers.scalar_type()).copy_(numbers);
}

}  // namespace orrery::ops
