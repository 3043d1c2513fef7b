#include "ops/int8_attention.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/machines.h"

namespace orrery::testing {
namespace {

using ::testing::HasSubstr;

// Rounded to 127 steps a row, in float64.
at::Tensor rounded(const at::Tensor& x) {
  const at::Tensor step = x.abs().amax(-1, true) / 127;
  return at::where(step > 0, (x / step).round() * step, 0.0);
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const at::Tensor scores =
      q.transpose(1, 2).matmul(k.transpose(1, 2).transpose(-1, -2)) / std::sqrt(static_cast<double>(q.size(-1)));
  return scores.softmax(-1).matmul(v.transpose(1, 2)).transpose(1, 2);
}

TEST(Int8AttentionTest, IsAttentionOfTheRoundedNumbers) {
  at::manual_seed(11);
  for (const auto& [batch, queries, keys, heads, width] :
       {std::tuple{1, 1, 1, 1, 64}, {2, 5, 77, 2, 64}, {1, 67, 9, 1, 128}, {1, 3, 64, 2, 128}, {0, 3, 2, 1, 64}}) {
    const at::ScalarType type = width == 64 ? at::kBFloat16 : at::kHalf;
    SCOPED_TRACE(std::to_string(queries) + "x" + std::to_string(keys) + "x" + std::to_string(width));
    const at::Tensor q = at::randn({batch, queries, 2, heads, width}).to(type).select(2, 0);  // part of a joint projection
    const at::Tensor k = (at::randn({batch, keys, heads, width}) + 5).to(type),
                     v = at::randn({batch, keys, heads, width}).to(type);
    const at::Tensor mean = k.to(at::kFloat).mean(1, true).to(at::kDouble), wide = v.to(at::kDouble);
    expect_on_all_machines(attention(rounded(q.to(at::kDouble)), rounded(k.to(at::kDouble) - mean), wide),
                           [&](const Bring& on) { return ops::int8_attention(on(q), on(k), on(v)); });
    if (batch == 0) continue;
    // Beside attention as it was meant: two digits, in spite of keys that are far from zero.
    EXPECT_LT(relative_l2(ops::int8_attention(q, k, v), attention(q.to(at::kDouble), k.to(at::kDouble), wide)), 0.03);
  }
}

TEST(Int8AttentionTest, InFloat32OnTheCpu) {
  at::manual_seed(13);
  const at::Tensor q = at::randn({2, 5, 3, 10}), k = at::randn({2, 7, 3, 10}) + 5, v = at::randn({2, 7, 3, 10});
  const at::Tensor mean = k.mean(1, true).to(at::kDouble);
  const at::Tensor exact = attention(rounded(q.to(at::kDouble)), rounded(k.to(at::kDouble) - mean), v.to(at::kDouble));
  EXPECT_TRUE(is_close(ops::int8_attention(q, k, v), exact.to(at::kFloat), kSameMath));
}

TEST(Int8AttentionTest, WhatIsNotFiniteIsNotHidden) {
  for (const float bad : {NAN, INFINITY}) {
    at::Tensor q = at::ones({1, 3, 1, 64}).to(at::kHalf), k = q.clone();
    const at::Tensor v = q.clone();
    q[0][1][0][5] = bad;
    for (const Machine& machine : machines()) {
      at::Tensor nan = machine.run([&](const Bring& on) { return ops::int8_attention(on(q), on(v), on(v)); }).isnan();
      EXPECT_TRUE(nan[0][1].all().item<bool>() && nan.sum().item<int64_t>() == 64) << machine.name;
    }
    k[0][2][0][60] = bad;
    for (const Machine& machine : machines())
      EXPECT_TRUE(
          machine.run([&](const Bring& on) { return ops::int8_attention(on(v), on(k), on(v)); }).isnan().all().item<bool>())
          << machine.name;
  }
}

TEST(Int8AttentionTest, RefusesByName) {
  const at::Tensor q = at::randn({1, 2, 1, 64}).to(at::kHalf);
  EXPECT_THAT(error_of([&] { return ops::int8_attention(q.to(at::kDouble), q, q); }), HasSubstr("query: has a dtype"));
  EXPECT_THAT(error_of([&] { return ops::int8_attention(q, q, q.narrow(1, 0, 1)); }),
              HasSubstr("value: has the wrong shape"));
  EXPECT_THAT(error_of([&] { return ops::int8_attention(q, q.narrow(1, 0, 0), q.narrow(1, 0, 0)); }),
              HasSubstr("key: must have tokens"));
}

}  // namespace
}  // namespace orrery::testing
