#include "ops/small_network.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <array>

#include "kernels/norm_silu.h"
#include "orrery/error.h"
#include "support/compare.h"

namespace orrery {
namespace {

using ops::PackedProduct;
using ops::Then;

class SmallNetworkTest : public ::testing::Test {
 protected:
  SmallNetworkTest() { at::manual_seed(3); }

  static float* of(const at::Tensor& tensor) { return tensor.mutable_data_ptr<float>(); }
};

TEST_F(SmallNetworkTest, AProductEqualsALinearLayer) {
  for (const auto& [rows, in, out] : {std::array<int64_t, 3>{1, 7, 5}, {16, 33, 70}, {5, 160, 97}, {83, 12, 32}}) {
    const at::Tensor x = at::randn({rows, in}), weight = at::randn({out, in}), bias = at::randn({out}),
                     y = at::empty({rows, out}), gate = at::randn({out});
    PackedProduct(weight, bias)(of(x), rows, of(y));
    const at::Tensor expected = at::linear(x, weight, bias);
    EXPECT_TRUE(testing::is_close(y, expected, testing::kComponentParity));
    at::Tensor sum = at::randn({rows, out});
    const at::Tensor before = sum.clone();
    PackedProduct(weight, bias)(of(x), rows, of(sum), Then::kAddGated, of(gate));
    EXPECT_TRUE(testing::is_close(sum, before + gate * expected, testing::kComponentParity));
    PackedProduct(weight, bias)(of(x), rows, of(sum), Then::kAdd);
    EXPECT_TRUE(testing::is_close(sum, before + (gate + 1) * expected, testing::kComponentParity));
  }
}

TEST_F(SmallNetworkTest, HalfWeightsAreExact) {
  const at::Tensor weight = at::randn({37, 19}).to(at::kHalf).to(at::kFloat), bias = at::randn({37}), x = at::randn({9, 19}),
                   y = at::empty({9, 37});
  PackedProduct(weight, bias)(of(x), 9, of(y));
  EXPECT_TRUE(testing::is_close(y, at::linear(x, weight, bias), testing::kComponentParity));
}

TEST_F(SmallNetworkTest, TheKernelEqualsItsPlainTwin) {
  const int64_t rows = 13, depth = 21, taps = 3, blocks = 2, columns = 45;
  const at::Tensor in = at::randn({200}), weight = at::randn({blocks, taps, depth, kernels::kColumns}),
                   bias = at::randn({blocks * kernels::kColumns});
  std::vector<int64_t> from, to;
  for (int64_t i = 0; i < rows; ++i) {
    from.push_back(7 * i);
    to.push_back(columns * (rows - 1 - i));
  }
  const std::array<int64_t, 3> tap = {0, 5, 31};
  const at::Tensor fast = at::zeros({rows * columns}), plain = at::zeros({rows * columns});
  kernels::RowProduct product{.in = of(in),
                              .rows = from.data(),
                              .out_rows = to.data(),
                              .row_count = rows,
                              .taps = tap.data(),
                              .tap_count = taps,
                              .depth = depth,
                              .weight = of(weight),
                              .bias = of(bias),
                              .columns = columns,
                              .out = of(fast)};
  kernels::row_product(product, 0, blocks);
  product.out = of(plain);
  kernels::row_product_plain(product, 0, blocks);
  EXPECT_TRUE(testing::is_close(fast, plain, testing::kComponentParity));
}

TEST_F(SmallNetworkTest, ARowDoesNotDependOnItsNeighbours) {  // 150 columns: a row alone takes four blocks at once, then one
  const at::Tensor weight = at::randn({150, 40}), bias = at::randn({150}), x = at::randn({11, 40}),
                   all = at::empty({11, 150}), one = at::empty({150});
  const PackedProduct product(weight, bias);
  product(of(x), 11, of(all));
  for (int64_t i = 0; i < 11; ++i) {
    product(of(x) + 40 * i, 1, of(one));
    EXPECT_TRUE(one.equal(all[i])) << i;
  }
}

TEST_F(SmallNetworkTest, NormsEqualTheirFormulas) {
  for (const int64_t width : {9, 160}) {
    const at::Tensor x = at::randn({5, width}) * 3 + 1, shift = at::randn({width}), scale = at::randn({width}),
                     y = at::empty({5, width});
    ops::modulated_norm(of(x), of(shift), of(scale), 5, width, 1e-6f, of(y));
    EXPECT_TRUE(
        testing::is_close(y, at::layer_norm(x, {width}, {}, {}, 1e-6) * (1 + scale) + shift, testing::kComponentParity));
  }
  for (const int64_t channels : {12, 64}) {
    const int64_t height = 5, width = 7, groups = 4;
    const at::Tensor x = at::randn({1, channels, height, width}) * 2 - 1, weight = at::randn({channels}),
                     bias = at::randn({channels});
    const at::Tensor last = x.permute({0, 2, 3, 1}).contiguous(), y = at::empty({height, width, channels}),
                     affine = at::empty({4, channels});
    float *scale = of(affine), *shift = scale + channels;
    ops::group_norm({height * width, channels, groups, 1e-5f, of(weight), of(bias)}, of(last), shift + channels, scale,
                    shift);
    kernels::affine_silu(of(last), 0, scale, shift, channels, 0, height * width, of(y));
    const at::Tensor expected = at::silu(at::group_norm(x, groups, weight, bias, 1e-5, false)).squeeze(0).permute({1, 2, 0});
    EXPECT_TRUE(testing::is_close(y, expected, testing::kComponentParity));
  }
}

TEST_F(SmallNetworkTest, AttentionAndActivationsEqualTheirFormulas) {
  const int64_t count = 5, heads = 3, dim = 11, width = heads * dim;
  const at::Tensor query = at::randn({width}), keys = at::randn({count, width}), values = at::randn({count, width}),
                   out = at::empty({width}), scores = at::empty({32});
  std::vector<const float*> key_rows, value_rows;
  for (int64_t i = 0; i < count; ++i) {
    key_rows.push_back(of(keys) + i * width);
    value_rows.push_back(of(values) + i * width);
  }
  ops::attend(of(query), key_rows.data(), value_rows.data(), count, heads, dim, 0.3f, of(scores), of(out));
  const auto split = [&](const at::Tensor& x) { return x.view({-1, heads, dim}).transpose(0, 1); };  // [heads,N,dim]
  const at::Tensor expected =
      at::matmul(at::softmax(at::matmul(split(query), split(keys).transpose(1, 2)) * 0.3, -1), split(values))
          .transpose(0, 1)
          .flatten();
  EXPECT_TRUE(testing::is_close(out, expected, testing::kComponentParity));

  for (const int64_t tokens : {5, 16, 21}) {
    const at::Tensor rows = at::randn({tokens, 3 * width}), mixed = at::empty({tokens, width}),
                     room = at::empty({(dim + 1) * kernels::padded_keys(tokens)});
    ops::self_attend({of(rows), tokens, heads, dim, 0.3f}, of(room), of(mixed));
    const std::vector<at::Tensor> qkv = rows.chunk(3, 1);
    const at::Tensor weights = at::softmax(at::matmul(split(qkv[0]), split(qkv[1]).transpose(1, 2)) * 0.3, -1);
    EXPECT_TRUE(
        testing::is_close(mixed, at::matmul(weights, split(qkv[2])).transpose(0, 1).flatten(1), testing::kComponentParity));
  }

  const at::Tensor x = at::linspace(-120, 120, 77), gelu = x.clone(), silu = x.clone();
  ops::gelu_tanh(of(gelu), 77);
  ops::silu(of(silu), 77);
  EXPECT_TRUE(testing::is_close(gelu, at::gelu(x, "tanh"), testing::kComponentParity));
  EXPECT_TRUE(testing::is_close(silu, at::silu(x), testing::kComponentParity));
}

TEST_F(SmallNetworkTest, AWeightOfAnotherShapeIsRefused) {
  EXPECT_THROW(PackedProduct(at::randn({3, 4, 5}), at::randn({3})), Error);
  EXPECT_THROW(PackedProduct(at::randn({3, 4}), at::randn({4})), Error);
}

}  // namespace
}  // namespace orrery
