#include "ops/huge_pages.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdint>

namespace orrery {
namespace {

TEST(HugePagesTest, MemoryBeginsWithAPage) {
  const ops::HugePages memory(100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.data()) % (uintptr_t{2} << 20), 0u);
  memory.data()[99] = 1;
}

TEST(HugePagesTest, TensorsShareAPageAndOutliveEachOther) {
  const at::Tensor numbers = at::arange(60, at::kFloat).view({6, 10});
  at::Tensor first = ops::in_huge_pages(numbers);
  const at::Tensor second = ops::in_huge_pages(numbers.t());
  const auto* const end = first.const_data_ptr<float>() + 60;
  EXPECT_GE(second.const_data_ptr<float>(), end);
  EXPECT_LE(second.const_data_ptr<float>(), end + 16);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(second.const_data_ptr()) % 64, 0u);
  EXPECT_TRUE(first.equal(numbers));
  EXPECT_TRUE(second.is_contiguous());
  first.reset();
  EXPECT_TRUE(second.equal(numbers.t()));
}

TEST(HugePagesTest, ATensorLargerThanAPieceGetsItsOwn) {
  const at::Tensor numbers = at::ones({3 << 20}, at::kInt);  // 12 MiB
  EXPECT_TRUE(ops::in_huge_pages(numbers).equal(numbers));
}

}  // namespace
}  // namespace orrery
