#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>

namespace orrery::ops {

/// Items [first, last).
struct Share {
  int64_t first, last;
};

/// How items are shared.
struct Shares {
  int64_t count;     ///< items in all
  int64_t unit = 1;  ///< a share's size is a multiple of it, but for the last
  int64_t most;      ///< items of a share at most; a multiple of `unit`
};

/// Every thread runs `work(next)`, which calls `next()` for shares until it gives none: large ones first, small ones to end
/// together. Other programs' work delays one thread and not another, so equal halves would wait for the slower.
template <typename Work>
void in_shares(const Shares& shares, const Work& work) {
  const int64_t threads = at::get_num_threads();
  std::atomic<int64_t> taken = 0;
  const auto next = [&]() -> std::optional<Share> {
    int64_t first = taken.load(), last;
    do {
      if (first >= shares.count) return std::nullopt;
      const int64_t part = (shares.count - first) / (2 * threads * shares.unit) * shares.unit;
      last = std::min(shares.count, first + std::clamp(part, shares.unit, shares.most));
    } while (!taken.compare_exchange_weak(first, last));
    return Share{first, last};
  };
  const int64_t workers = std::min(threads, (shares.count + shares.unit - 1) / shares.unit);
  at::parallel_for(0, workers, 1, [&](int64_t, int64_t) { work(next); });
}

}  // namespace orrery::ops
