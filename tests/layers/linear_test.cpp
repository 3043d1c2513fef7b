#include "layers/linear.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "orrery/error.h"
#include "support/compare.h"

namespace orrery::layers {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

Linear linear_with(float number) {
  at::Tensor weight = at::ones({3, 5}), bias = at::zeros({3});
  weight[1][2] = number;
  return Linear(Weights::from({{"weight", weight}, {"bias", bias}}, "memory"), 5, 3, true);
}

TEST(LinearTest, AnInfinityHasNoEightBitForm) {
  const Linear stored = linear_with(-std::numeric_limits<float>::infinity());
  for (const auto& [form, name] : {std::pair{WeightForm::kInt8, "int8"}, {WeightForm::kFloat8, "float8"}}) {
    const WeightForm asked = form;
    const auto message = HasSubstr(std::string("weight [3, 5]: holds an infinity, which has no ") + name);
    EXPECT_THAT([&] { stored.resident(asked); }, ThrowsMessage<Error>(message));
    EXPECT_TRUE(linear_with(1e38f).resident(form).defined());
  }
}

// The unit vectors show the weight itself; eight rows and nine go different ways.
at::Tensor weight_of(const Linear& linear, int64_t in) {
  const at::Tensor most = linear(at::eye(in)).t(), few = linear(at::eye(in).narrow(0, 0, 8)).t();
  EXPECT_TRUE(few.equal(most.narrow(1, 0, 8)));
  return most;
}

TEST(LinearTest, AsFloat8EachWeightIsOffByASixteenthAtMost) {
  at::manual_seed(1);
  const at::Tensor weight = at::randn({7, 33}) * at::logspace(-6, 5, 7).unsqueeze(1);  // rows of very different sizes
  const Linear linear(Weights::from({{"weight", weight}}, "memory"), 33, 7, false, WeightForm::kFloat8);
  const at::Tensor off = (weight_of(linear, 33) - weight).abs(), largest = weight.abs().amax(1, true);
  // Below 2⁻⁶ of its 448 steps a float8 has steps of one size.
  EXPECT_TRUE((off <= weight.abs() / 16 + largest / 448 * 0.001).all().item<bool>());
  EXPECT_GT((off / largest).max().item<float>(), 0.005) << "nothing was rounded";
}

TEST(LinearTest, StoredFloat8IsTakenTimesTheScaleBesideIt) {
  at::manual_seed(2);
  const at::Tensor numbers = (at::randn({5, 33}) * 50).to(at::kFloat8_e4m3fn), wide = numbers.to(at::kFloat);
  const at::Tensor one = at::tensor({0.25F}), scalar = at::tensor(0.5F), rows = at::rand({5, 1}) + 0.5;
  const std::vector<std::pair<std::string, at::Tensor>> scales = {
      {"scale_weight", one}, {"scale_weight", scalar}, {"weight_scale", rows}, {"weight_scale", rows.squeeze(1)}};
  for (const auto& [name, scale] : scales) {
    const Weights weights = Weights::from(
        {{"q.weight", numbers}, {"q." + name, scale}, {"q.scale_input", one}, {"scaled_fp8", at::ones({2})}}, "memory");
    const at::Tensor meant = wide * (scale.numel() == 1 ? scale : rows);
    for (const WeightForm form : {WeightForm::kStored, WeightForm::kFloat8, WeightForm::kFloat32})
      EXPECT_TRUE(testing::is_close(weight_of(Linear(weights.sub("q"), 33, 5, false, form), 33), meant, testing::kSameMath));
    EXPECT_TRUE(testing::is_close(weight_of(Linear(weights.sub("q"), 33, 5, false, WeightForm::kBFloat16), 33), meant,
                                  testing::kBFloat16Rounding));
    EXPECT_TRUE(testing::is_close(Linear(weights.sub("q"), 33, 5, false, WeightForm::kInt8).widened()(at::eye(33)).t(),
                                  meant, testing::kInt8Weights));
    // Whoever asks for the tensor itself gets what was meant.
    EXPECT_TRUE(
        testing::is_close(weights.sub("q").to(at::kFloat).get("weight", {5, 33}), meant, testing::kBFloat16Rounding));
    EXPECT_EQ(weights.as_stored().get("q.weight", {5, 33}).scalar_type(), at::kBFloat16);
    EXPECT_THAT(weights.unused(), ::testing::IsEmpty());
  }
  EXPECT_TRUE(weight_of(Linear(Weights::from({{"weight", numbers}}, "memory"), 33, 5, false), 33).equal(wide));
}

TEST(LinearTest, ScalesOfBlocksAreRefused) {
  for (const auto& [name, shape] : {std::pair{"weight_scale", std::vector<int64_t>{2, 2}}, {"weight_scale_inv", {3, 1}}}) {
    const Weights weights =
        Weights::from({{"weight", at::ones({5, 33}).to(at::kFloat8_e4m3fn)}, {name, at::ones(shape)}}, "memory");
    EXPECT_THAT([&] { Linear(weights, 33, 5, false); }, ThrowsMessage<Error>(HasSubstr("scales of a form that is not run")));
  }
}

}  // namespace
}  // namespace orrery::layers
