#include "layers/linear.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <limits>

#include "orrery/error.h"

namespace orrery::layers {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

Linear linear_with(float number) {
  at::Tensor weight = at::ones({3, 5}), bias = at::zeros({3});
  weight[1][2] = number;
  return Linear(Weights::from({{"weight", weight}, {"bias", bias}}, "memory"), 5, 3, true);
}

TEST(LinearTest, AnInfinityHasNoInt8Form) {
  const Linear stored = linear_with(-std::numeric_limits<float>::infinity());
  EXPECT_THAT([&] { stored.resident(WeightForm::kInt8); },
              ThrowsMessage<Error>(HasSubstr("weight [3, 5]: holds an infinity, which has no int8 form")));
  EXPECT_TRUE(linear_with(1e38f).resident(WeightForm::kInt8).defined());
}

}  // namespace
}  // namespace orrery::layers
