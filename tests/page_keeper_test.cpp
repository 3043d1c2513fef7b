#include "page_keeper.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

namespace orrery {
namespace {

constexpr size_t kMega = size_t{1} << 20;

TEST(PageKeeper, GivesTheNextBlockThePagesOfAFreedOne) {
  PageKeeper keeper(256 << 20);
  void* first = nullptr;
  {
    const c10::DataPtr block = keeper.allocate(5 * kMega);
    first = block.get();
    std::memset(first, 1, 5 * kMega);
  }
  EXPECT_EQ(keeper.usage().live, 0u);
  EXPECT_EQ(keeper.usage().kept, 5 * kMega);
  const c10::DataPtr smaller = keeper.allocate(5 * kMega - 100);
  EXPECT_EQ(smaller.get(), first);
  EXPECT_EQ(keeper.usage().live, 5 * kMega);
  EXPECT_EQ(keeper.usage().kept, 0u);
}

TEST(PageKeeper, DoesNotWasteAMuchLargerBlock) {
  PageKeeper keeper(256 << 20);
  void* const large = keeper.allocate(8 * kMega).release_context();
  keeper.raw_deallocate(large);
  const c10::DataPtr small = keeper.allocate(2 * kMega);
  EXPECT_NE(small.get(), large);
  EXPECT_EQ(keeper.usage().kept, 8 * kMega);
}

TEST(PageKeeper, KeepsNoMoreThanThePeakAnd64Mega) {
  PageKeeper keeper(int64_t{1} << 40);
  size_t seed = 1;
  std::vector<c10::DataPtr> blocks(12);
  for (int i = 0; i < 500; ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    blocks[(seed >> 33) % blocks.size()] = keeper.allocate((1 + (seed >> 40) % 30) * kMega);
    const auto usage = keeper.usage();
    ASSERT_LE(usage.live, usage.highest);
    ASSERT_LE(usage.live + usage.kept, std::max(usage.highest, usage.live + 64 * kMega)) << "step " << i;
  }
  EXPECT_GT(keeper.usage().kept, 0u);
}

TEST(PageKeeper, KeepsNoMoreThanItWasTold) {
  PageKeeper keeper(10 << 20);
  for (int i = 0; i < 4; ++i) {
    const c10::DataPtr a = keeper.allocate(4 * kMega), b = keeper.allocate(6 * kMega), c = keeper.allocate(8 * kMega);
  }
  EXPECT_LE(keeper.usage().kept, 10 * kMega);
}

TEST(PageKeeper, LeavesSmallBlocksAlone) {
  PageKeeper keeper(256 << 20);
  void* const raw = keeper.raw_allocate(1000);
  const c10::DataPtr block = keeper.allocate(kMega - 1), nothing = keeper.allocate(0);
  EXPECT_EQ(keeper.usage().live, 0u);
  const c10::DataPtr copy = keeper.clone(block.get(), 1000);
  EXPECT_EQ(std::memcmp(copy.get(), block.get(), 1000), 0);
  keeper.raw_deallocate(raw);
}

TEST(PageKeeper, ServesSeveralThreads) {
  PageKeeper keeper(64 << 20);
  std::vector<std::thread> threads;
  for (int id = 0; id < 4; ++id)
    threads.emplace_back([&keeper, id] {
      for (int i = 0; i < 50; ++i) {
        const size_t bytes = (1 + (i + id) % 3) * kMega;
        const c10::DataPtr block = keeper.allocate(bytes);
        std::memset(block.get(), id, bytes);
        for (size_t at = 0; at < bytes; at += 4096) ASSERT_EQ(static_cast<const char*>(block.get())[at], id);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(keeper.usage().live, 0u);
}

}  // namespace
}  // namespace orrery
