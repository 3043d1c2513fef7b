#include "ops/sampler_step.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "kernels/common/philox.h"
#include "kernels/machines.h"

namespace orrery::testing {
namespace {

using ::testing::HasSubstr;

at::Tensor noise_of(const at::Tensor& like, const ops::StepNoise& key) {
  const at::Tensor noise = at::empty_like(like);
  for (int64_t f = 0; f < like.size(2); ++f) {
    const at::Tensor frame = at::empty({like.size(0), like.size(1), like.size(3), like.size(4)});
    ops::fill_with_noise(frame, {key.seed, key.frame + static_cast<uint32_t>(f), key.step});
    noise.select(2, f).copy_(frame);
  }
  return noise;
}

TEST(SamplerStepTest, IsTheSumToTheLastBitOnEveryMachine) {
  at::manual_seed(3);
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{1, 1, 1, 1, 1}, {2, 3, 4, 5, 7}, {1, 16, 3, 9, 8}, {1, 4, 0, 3, 3}}) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const at::Tensor sample = at::randn(shape), output = at::randn(shape).to(type), negative = at::randn(shape).to(type);
      const ops::StepNoise key{.seed = 7, .frame = 2, .step = 5};
      for (const bool from_negative : {true, false}) {
        const ops::StepWeights w{1.25f, -0.3f, 0.7f, 5.5f, from_negative};
        const at::Tensor o = output.to(at::kFloat), n = negative.to(at::kFloat);
        const at::Tensor guided = (from_negative ? n : o) + (o - n) * w.guidance;
        const at::Tensor expected = sample * w.of_sample + guided * w.of_output + noise_of(sample, key) * w.of_noise;
        for (const Machine& machine : machines())
          EXPECT_TRUE(
              machine.run([&](const Bring& on) { return ops::sampler_step(on(sample), on(output), on(negative), w, key); })
                  .equal(expected))
              << machine.name;
      }
      const at::Tensor plain = sample - output.to(at::kFloat) * 0.25f;
      for (const Machine& machine : machines())
        EXPECT_TRUE(
            machine
                .run([&](const Bring& on) { return ops::sampler_step(on(sample), on(output), {}, {.of_output = -0.25f}); })
                .equal(plain))
            << machine.name;
    }
  }
}

// The known-answer vectors of the Random123 distribution (kat_vectors, philox4x32 10).
TEST(SamplerStepTest, PhiloxGivesThePublishedVectors) {
  const kernels::Philox zeros = kernels::philox4x32_10({{0, 0, 0, 0}}, 0);
  EXPECT_EQ(zeros.words[0], 0x6627e8d5u);
  EXPECT_EQ(zeros.words[1], 0xe169c58du);
  EXPECT_EQ(zeros.words[2], 0xbc57ac4cu);
  EXPECT_EQ(zeros.words[3], 0x9b00dbd8u);
  const uint32_t all = 0xffffffffu;
  const kernels::Philox ones = kernels::philox4x32_10({{all, all, all, all}}, ~uint64_t{0});
  EXPECT_EQ(ones.words[0], 0x408f276du);
  EXPECT_EQ(ones.words[1], 0x41c83b0eu);
  EXPECT_EQ(ones.words[2], 0xa20bc7c6u);
  EXPECT_EQ(ones.words[3], 0x6d5451fdu);
}

// The arithmetic that is the same everywhere, against the C library's.
TEST(SamplerStepTest, NormalsAreThoseOfBoxMullerInFloat64) {
  int64_t differing = 0;
  double largest = 0;
  for (uint64_t block = 0; block < 50000; ++block) {
    float values[4];
    kernels::four_normals({.seed = 11, .frame = 3, .step = 1}, block, values);
    const kernels::Philox bits = kernels::philox4x32_10({{static_cast<uint32_t>(block), 0, 1, 3}}, 11);
    for (int pair = 0; pair < 2; ++pair) {
      const double u = (bits.words[2 * pair] + 0.5) / 4294967296.0, v = (bits.words[2 * pair + 1] + 0.5) / 4294967296.0;
      const double radius = std::sqrt(-2 * std::log(u)), angle = 2 * std::numbers::pi * v;
      for (int i = 0; i < 2; ++i) {
        const double expected = radius * (i == 0 ? std::cos(angle) : std::sin(angle));
        differing += values[2 * pair + i] != static_cast<float>(expected);
        largest = std::max(largest, std::abs(values[2 * pair + i] - expected));
      }
    }
  }
  EXPECT_LE(differing, 2);  // of 200000: a double that lies next to the middle of two floats
  EXPECT_LT(largest, 3e-7);
}

TEST(SamplerStepTest, ExponentialIsThatOfTheCLibrary) {
  for (float x = 0; x > -90; x -= 0.0371f) {
    const double expected = x > -87 ? std::exp(static_cast<double>(x)) : 0;
    EXPECT_NEAR(kernels::exact::exp_of_nonpositive(x), expected, expected * 1.2e-7) << x;
  }
}

TEST(SamplerStepTest, RefusesByName) {
  const at::Tensor x = at::randn({1, 2, 3, 4, 5});
  EXPECT_THAT(error_of([&] { return ops::sampler_step(x, x.to(at::kLong), {}, {}); }), HasSubstr("output: has a dtype"));
  EXPECT_THAT(error_of([&] { return ops::sampler_step(x.transpose(1, 2), x, {}, {}); }),
              HasSubstr("sample: must be contiguous"));
  EXPECT_THAT(error_of([&] { return ops::sampler_step(x, x, x.narrow(0, 0, 0), {}); }),
              HasSubstr("negative: has the wrong shape"));
}

}  // namespace
}  // namespace orrery::testing
