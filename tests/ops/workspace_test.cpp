#include "ops/workspace.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <thread>

namespace orrery {
namespace {

using ops::Workspace;

TEST(WorkspaceTest, TheNextCallGetsTheSameMemory) {
  float* first = nullptr;
  {
    Workspace memory;
    first = memory.floats(100);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0u);
  }
  Workspace memory;
  EXPECT_EQ(memory.floats(50), first);
}

TEST(WorkspaceTest, NothingThatIsInUseIsGivenTwice) {
  Workspace outer;
  float* const first = outer.floats(1000);
  float* later = nullptr;
  {
    Workspace inner;
    later = inner.floats(3);
    EXPECT_GE(later, first + 1000);
    float* const large = inner.floats(int64_t{10} << 20);  // more than a piece holds: the others stay where they are
    large[0] = large[(int64_t{10} << 20) - 1] = 7;
    first[999] = later[2] = 1;
    EXPECT_EQ(large[0], 7);
  }
  EXPECT_EQ(outer.floats(3), later);
  EXPECT_EQ(first[999], 1);
}

TEST(WorkspaceTest, EachThreadHasItsOwn) {
  Workspace memory;
  float *const ours = memory.floats(16), *theirs = nullptr;
  std::thread([&] { theirs = Workspace().floats(16); }).join();
  EXPECT_NE(ours, theirs);
}

}  // namespace
}  // namespace orrery
