#include "ops/linear_small.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include "orrery/error.h"
#include "support/compare.h"

namespace orrery::ops {
namespace {

using ::orrery::testing::is_close;
using ::orrery::testing::kSameMath;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

at::Tensor weights_of(at::ScalarType dtype, int64_t out, int64_t in) {
  return dtype == at::kChar ? at::randint(-127, 128, {out, in}, at::kInt).to(dtype) : at::randn({out, in}).to(dtype);
}

class LinearSmallTest : public ::testing::TestWithParam<at::ScalarType> {};

// Every number of rows, with widths that no vector divides and outputs that no block does.
TEST_P(LinearSmallTest, EqualsTheFormulaInFloat64) {
  at::manual_seed(5);
  for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8})
    for (const int64_t in : {1, 7, 33, 517})
      for (const int64_t out : {1, 3, 301}) {
        const at::Tensor x = at::randn({rows, in}), weight = weights_of(GetParam(), out, in);
        const at::Tensor expected = at::matmul(x.to(at::kDouble), weight.to(at::kDouble).t()).to(at::kFloat);
        EXPECT_TRUE(is_close(linear_small(x, weight), expected, kSameMath)) << rows << " " << in << " " << out;
      }
}

TEST_P(LinearSmallTest, TakesAnyRankAndStride) {
  at::manual_seed(6);
  const at::Tensor weight = weights_of(GetParam(), 19, 21), x = at::randn({2, 21, 3}).transpose(1, 2);
  EXPECT_EQ(linear_small(x, weight).sizes(), (std::vector<int64_t>{2, 3, 19}));
  EXPECT_TRUE(is_close(linear_small(x, weight), at::linear(x, weight.to(at::kFloat)), kSameMath));
}

TEST_P(LinearSmallTest, RefusesWhatItCannotDo) {
  const at::Tensor weight = weights_of(GetParam(), 4, 6);
  EXPECT_TRUE(takes_linear_small(at::zeros({8, 6}), weight));
  EXPECT_FALSE(takes_linear_small(at::zeros({9, 6}), weight));
  EXPECT_FALSE(takes_linear_small(at::zeros({1, 6}, at::kDouble), weight));
  EXPECT_FALSE(takes_linear_small(at::zeros({1, 4}), weight.t()));
  EXPECT_THAT(
      [&] {
        linear_small(at::zeros({1, 5}), weight);
      },
      ThrowsMessage<Error>(HasSubstr("linear_small: cannot multiply")));
}

TEST(LinearSmallFloat8, EveryNumberIsWidenedAsLibTorchDoes) {
  const at::Tensor bits = at::arange(256).to(at::kByte).view({256, 1}).repeat({1, 37});  // a vector's lanes and the rest
  const at::Tensor weight = bits.view(at::kFloat8_e4m3fn), x = at::zeros({1, 37});
  for (const int64_t k : {0, 1, 36}) {
    const at::Tensor one = x.clone(), wide = weight.select(1, k).to(at::kFloat).contiguous();
    one[0][k] = 1;
    at::Tensor found = linear_small(one, weight)[0];
    EXPECT_TRUE(found.isnan().equal(wide.isnan()));
    EXPECT_TRUE(found.nan_to_num().equal(wide.nan_to_num())) << k;
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, LinearSmallTest, ::testing::Values(at::kBFloat16, at::kChar, at::kFloat8_e4m3fn));

}  // namespace
}  // namespace orrery::ops
