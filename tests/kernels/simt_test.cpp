// The emulation itself: that it finds what it is there to find. Each kernel here has one mistake.
#include "simt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

namespace orrery::testing {
namespace {

using ::testing::HasSubstr;

std::string problem_of(unsigned threads, const std::function<void()>& kernel) {
  try {
    simt::run_grid(dim3(1), threads, kernel);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "none";
}

TEST(SimtTest, ABarrierThatNotAllReachIsNamed) {
  EXPECT_THAT(problem_of(64,
                         [] {
                           if (threadIdx.x < 40) simt::barrier();
                         }),
              HasSubstr("thread 0 of block (0, 0, 0) waits at a barrier that not all threads reach"));
}

TEST(SimtTest, LanesThatDisagreeAreNamed) {
  EXPECT_THAT(problem_of(32, [] { threadIdx.x == 5 ? simt::shuffle(1, 0) : simt::shuffle_xor(1, 1); }),
              HasSubstr("is at shuffle"));
  EXPECT_THAT(problem_of(32,
                         [] {
                           if (threadIdx.x != 5) simt::shuffle(1, 0);
                         }),
              HasSubstr("shuffle: not all lanes of its warp come"));
  EXPECT_THAT(problem_of(16, [] { simt::shuffle(1, 0); }), HasSubstr("its warp is not full"));
}

TEST(SimtTest, SharedMemoryIsPoisonedAndCopiesAreLate) {
  struct Shared {
    alignas(16) float values[4];
  };
  static float source[4] = {1, 2, 3, 4};
  EXPECT_EQ(problem_of(1, [] { EXPECT_TRUE(std::isnan(simt::shared<Shared>().values[2])); }), "none");
  EXPECT_EQ(problem_of(1,
                       [] {
                         auto& shared = simt::shared<Shared>();
                         simt::copy_async16(shared.values, source, true);
                         simt::copies_commit();
                         EXPECT_TRUE(std::isnan(shared.values[2]));
                         simt::copies_wait<0>();
                         EXPECT_EQ(shared.values[2], 3);
                       }),
            "none");
  EXPECT_THAT(problem_of(1, [] { simt::copy_async16(simt::shared<Shared>().values, source, true); }),
              HasSubstr("never waited for"));
  EXPECT_THAT(problem_of(1, [] { simt::copy_async16(source, source, true); }), HasSubstr("what is not shared memory"));
}

TEST(SimtTest, OrdersOfThreadsShowAMissingBarrier) {
  struct Shared {
    int values[64];
  };
  int differing = 0;
  for (const simt::Order order : {simt::Order::kForward, simt::Order::kBackward, simt::Order::kShuffled}) {
    simt::setting().order = order;
    int sum = 0;
    simt::run_grid(dim3(1), 64, [&] {
      auto& shared = simt::shared<Shared>();
      shared.values[threadIdx.x] = 1;
      if (threadIdx.x == 40) sum = shared.values[63];  // too early, unless thread 63 ran before
    });
    differing += sum != 1;
  }
  simt::setting().order = simt::Order::kForward;
  EXPECT_GT(differing, 0);
}

}  // namespace
}  // namespace orrery::testing
