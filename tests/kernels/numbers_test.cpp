#include "kernels/common/numbers.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace orrery::testing {
namespace {

bool same(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || kernels::bits_of(a) == kernels::bits_of(b);
}

// Every value of a narrow type: to float and back; and between it and the next one, the middle and its two neighbours, which
// round down, to even and up.
template <class Ours, class Theirs, class Bits>
void expect_all_equal(uint32_t count) {
  int64_t wrong = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const Ours ours{static_cast<Bits>(i)};
    const Theirs theirs = __builtin_bit_cast(Theirs, static_cast<Bits>(i));
    const float value = kernels::to_float(ours);
    wrong += !same(value, static_cast<float>(theirs));
    if (std::isnan(value)) {
      wrong += !std::isnan(kernels::to_float(kernels::from_float<Ours>(value)));
      continue;
    }
    wrong += kernels::from_float<Ours>(value).bits != static_cast<Bits>(i);
    const float next = static_cast<float>(__builtin_bit_cast(Theirs, static_cast<Bits>(i + 1)));
    if (!std::isfinite(value) || !std::isfinite(next) || i + 1 == count) continue;
    const float middle = static_cast<float>((static_cast<double>(value) + next) / 2);
    for (const float at : {std::nextafter(middle, value), middle, std::nextafter(middle, next)})
      wrong += kernels::from_float<Ours>(at).bits != __builtin_bit_cast(Bits, static_cast<Theirs>(at));
  }
  EXPECT_EQ(wrong, 0);
}

TEST(NumbersTest, All65536BFloat16) {
  expect_all_equal<kernels::BFloat16, at::BFloat16, uint16_t>(65536);
}
TEST(NumbersTest, All65536Float16) {
  expect_all_equal<kernels::Float16, at::Half, uint16_t>(65536);
}
TEST(NumbersTest, All256Float8) {
  expect_all_equal<kernels::Float8, c10::Float8_e4m3fn, uint8_t>(256);
}

TEST(NumbersTest, WhatIsTooLargeBecomesInfinityOrTheLargest) {
  EXPECT_EQ(kernels::from_float<kernels::Float16>(65519.0f).bits, 0x7BFF);
  EXPECT_EQ(kernels::from_float<kernels::Float16>(65520.0f).bits, 0x7C00);
  EXPECT_EQ(kernels::from_float<kernels::Float16>(-1e30f).bits, 0xFC00);
  EXPECT_EQ(kernels::from_float<kernels::BFloat16>(3.4e38f).bits, 0x7F80);
  EXPECT_EQ(kernels::from_float<kernels::Float8>(1e9f).bits, 0x7E);
  EXPECT_EQ(kernels::from_float<kernels::Float8>(-449.0f).bits, 0xFE);
}

}  // namespace
}  // namespace orrery::testing
