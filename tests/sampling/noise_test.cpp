#include "sampling/noise.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace orrery::sampling {
namespace {

// The known-answer vectors of the Random123 distribution (kat_vectors, philox4x32 10).
TEST(NoiseTest, PhiloxGivesThePublishedVectors) {
  const PhiloxBlock zeros = philox4x32_10({{0, 0, 0, 0}}, 0);
  EXPECT_EQ(zeros.words[0], 0x6627e8d5u);
  EXPECT_EQ(zeros.words[1], 0xe169c58du);
  EXPECT_EQ(zeros.words[2], 0xbc57ac4cu);
  EXPECT_EQ(zeros.words[3], 0x9b00dbd8u);
  const uint32_t all = 0xffffffffu;
  const PhiloxBlock ones = philox4x32_10({{all, all, all, all}}, ~uint64_t{0});
  EXPECT_EQ(ones.words[0], 0x408f276du);
  EXPECT_EQ(ones.words[1], 0x41c83b0eu);
  EXPECT_EQ(ones.words[2], 0xa20bc7c6u);
  EXPECT_EQ(ones.words[3], 0x6d5451fdu);
}

TEST(NoiseTest, IsStandardNormal) {
  const at::Tensor noise = normal_noise({100003}, {.seed = 5});
  EXPECT_NEAR(noise.mean().item<double>(), 0, 5 / std::sqrt(100003.0));
  EXPECT_NEAR(noise.var().item<double>(), 1, 0.03);
  EXPECT_NEAR(noise.pow(4).mean().item<double>(), 3, 0.2);
}

TEST(NoiseTest, AFrameDoesNotDependOnItsCompany) {
  const at::Tensor all = latent_noise({1, 3, 5, 2, 7}, {.seed = 9});
  const at::Tensor later = latent_noise({1, 3, 2, 2, 7}, {.seed = 9, .frame = 3});
  EXPECT_TRUE(all.narrow(2, 3, 2).equal(later));
  EXPECT_FALSE(all.select(2, 0).equal(all.select(2, 1)));
}

TEST(NoiseTest, SeedAndStepChangeEverything) {
  const at::Tensor a = normal_noise({64}, {.seed = 1});
  EXPECT_EQ(a.eq(normal_noise({64}, {.seed = 2})).sum().item<int64_t>(), 0);
  EXPECT_EQ(a.eq(normal_noise({64}, {.seed = 1, .step = 1})).sum().item<int64_t>(), 0);
  EXPECT_TRUE(a.equal(normal_noise({64}, {.seed = 1})));
}

}  // namespace
}  // namespace orrery::sampling
