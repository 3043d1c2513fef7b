#pragma once

#include <c10/core/Allocator.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace orrery {

/// The allocator behind keep_tensor_pages(): large blocks are mappings of their own, and those that are freed are kept for
/// the next block of nearly the same size. Small ones are left to LibTorch's own allocator. Safe to use from any thread.
class PageKeeper final : public c10::Allocator {
 public:
  /// Blocks from here on are mapped.
  static constexpr size_t kLarge = size_t{1} << 20;

  explicit PageKeeper(int64_t most_kept);
  ~PageKeeper() override;
  PageKeeper(const PageKeeper&) = delete;

  c10::DataPtr allocate(size_t bytes) override;
  c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* to, const void* from, size_t bytes) const override;

  struct Usage {
    size_t live, kept, highest;  ///< bytes in use, kept for reuse, and most that were in use at once
  };
  Usage usage() const;

 private:
  struct Block {
    void* address;
    size_t bytes;
  };
  void* take(size_t bytes);
  bool give(void* address);  // false: it is not one of these blocks
  size_t room(size_t more) const;
  void trim(size_t room);
  static void release(void* address);

  const size_t most_kept_;
  mutable std::mutex mutex_;
  std::unordered_map<void*, size_t> live_;
  std::vector<Block> kept_;  ///< in the order in which they were freed
  size_t live_bytes_ = 0, kept_bytes_ = 0, highest_ = 0;
};

}  // namespace orrery
