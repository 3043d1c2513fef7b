#include "page_keeper.h"

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "orrery/tensor_memory.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace orrery {
namespace {

// What a block of a transformer frees and asks for again can be more than what it has in use at once.
constexpr size_t kAlwaysKept = size_t{32} << 20;
constexpr size_t kPage = 4096;
constexpr size_t kHugePage = size_t{2} << 20;

// A deleter is a plain function, so it finds its keeper here.
PageKeeper* keeper_of_process = nullptr;

size_t rounded_up(size_t bytes, size_t to) {
  return (bytes + to - 1) / to * to;
}

#ifdef __linux__
// Null where the system has no room.
void* map(size_t bytes) {
  const bool huge = bytes >= 2 * kHugePage;
  const size_t room = bytes + (huge ? kHugePage : 0);
  void* const mapped = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  if (!huge) return mapped;
  auto* const first = static_cast<char*>(mapped);
  char* const aligned = reinterpret_cast<char*>(rounded_up(reinterpret_cast<size_t>(first), kHugePage));
  if (aligned > first) munmap(first, static_cast<size_t>(aligned - first));
  if (char* const end = aligned + bytes; end < first + room) munmap(end, static_cast<size_t>(first + room - end));
  madvise(aligned, bytes, MADV_HUGEPAGE);  // a wish: refused where there are none
  return aligned;
}
void unmap(void* address, size_t bytes) {
  munmap(address, bytes);
}
#else
void* map(size_t) {
  return nullptr;
}
void unmap(void*, size_t) {}
#endif

}  // namespace

PageKeeper::PageKeeper(int64_t most_kept) : most_kept_(static_cast<size_t>(std::max<int64_t>(0, most_kept))) {
  keeper_of_process = this;
}

PageKeeper::~PageKeeper() {
  trim(0);
  if (keeper_of_process == this) keeper_of_process = nullptr;
}

c10::DataPtr PageKeeper::allocate(size_t bytes) {
  if (bytes >= kLarge)
    if (void* const address = take(rounded_up(bytes, kPage))) return {address, address, &release, c10::kCPU};
  c10::DataPtr small = c10::GetDefaultCPUAllocator()->allocate(bytes);  // throws where there is no memory
  void* const address = small.release_context();
  return {address, address, &release, c10::kCPU};
}

c10::DeleterFnPtr PageKeeper::raw_deleter() const {
  return &release;
}

void PageKeeper::copy_data(void* to, const void* from, size_t bytes) const {
  std::memcpy(to, from, bytes);
}

PageKeeper::Usage PageKeeper::usage() const {
  const std::lock_guard lock(mutex_);
  return {live_bytes_, kept_bytes_, highest_};
}

void* PageKeeper::take(size_t bytes) {
  const std::lock_guard lock(mutex_);
  // The block kept last is the likeliest to be in a cache. An eighth more than was asked for may lie idle.
  const auto fits = std::find_if(kept_.rbegin(), kept_.rend(), [&](const Block& block) {
    return block.bytes >= bytes && block.bytes - bytes <= bytes / 8;
  });
  Block block{nullptr, bytes};
  if (fits != kept_.rend()) {
    block = *fits;
    kept_.erase(std::next(fits).base());
    kept_bytes_ -= block.bytes;
  } else {
    trim(room(bytes));
    block.address = map(bytes);
    if (!block.address) {
      trim(0);
      block.address = map(bytes);
    }
    if (!block.address) return nullptr;
  }
  live_.emplace(block.address, block.bytes);
  live_bytes_ += block.bytes;
  highest_ = std::max(highest_, live_bytes_);
  return block.address;
}

bool PageKeeper::give(void* address) {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(address);
  if (found == live_.end()) return false;
  const Block block{address, found->second};
  live_.erase(found);
  live_bytes_ -= block.bytes;
  kept_.push_back(block);
  kept_bytes_ += block.bytes;
  trim(room(0));
  return true;
}

// How much may be kept beside what is in use and `more`.
size_t PageKeeper::room(size_t more) const {
  const size_t used = live_bytes_ + more;
  return std::min(most_kept_, std::max(kAlwaysKept, highest_ > used ? highest_ - used : 0));
}

// Lets go of blocks until no more than `room` bytes are kept: the smallest that is enough, else the largest. Letting go of
// the longest kept would lose a large block to every small one in a cycle that does not fit as a whole.
void PageKeeper::trim(size_t room) {
  while (kept_bytes_ > room) {
    const size_t excess = kept_bytes_ - room;
    const auto worse = [&](const Block& a, const Block& b) {
      const bool enough = a.bytes >= excess;
      return enough != (b.bytes >= excess) ? enough : enough ? a.bytes < b.bytes : a.bytes > b.bytes;
    };
    const auto victim = std::min_element(kept_.begin(), kept_.end(), worse);
    unmap(victim->address, victim->bytes);
    kept_bytes_ -= victim->bytes;
    kept_.erase(victim);
  }
}

void PageKeeper::release(void* address) {
  // Small blocks are not aligned to a page but by chance, which spares most of them the lock.
  PageKeeper* const keeper = keeper_of_process;
  if (keeper && reinterpret_cast<size_t>(address) % kPage == 0 && keeper->give(address)) return;
  c10::GetDefaultCPUAllocator()->raw_deleter()(address);
}

void keep_tensor_pages(int64_t most_kept) {
#ifdef __linux__
  // Never destroyed: tensors of static lifetime are freed after everything else.
  static PageKeeper* const keeper = new PageKeeper(most_kept);
  c10::SetCPUAllocator(keeper, /*priority=*/1);
#else
  static_cast<void>(most_kept);
#endif
}

}  // namespace orrery
