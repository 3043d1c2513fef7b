#include "sampling/noise.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace orrery::sampling {
namespace {

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
