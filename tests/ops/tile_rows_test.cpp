#include "ops/tile_rows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "kernels/isa.h"
#include "ops/small_network.h"
#include "orrery/error.h"
#include "support/compare.h"

namespace orrery {
namespace {

using kernels::TileMachine;
using ops::PackedProduct;
using ops::Then;

float* of(const at::Tensor& tensor) {
  return tensor.mutable_data_ptr<float>();
}
// Without the lower parts of the inputs 2e-3 would be lost.
constexpr testing::Tolerance kSixteenDigits{5e-6};

at::Tensor weights(at::IntArrayRef sizes) {
  return at::randn(sizes).to(at::kBFloat16).to(at::kFloat);
}

class TileRowsTest : public ::testing::Test {
 protected:
  TileRowsTest() { at::manual_seed(5); }
};

TEST_F(TileRowsTest, AProductEqualsALinearLayer) {
  for (const auto& [rows, in, out] :
       {std::array<int64_t, 3>{1, 7, 5}, {16, 33, 70}, {17, 64, 16}, {5, 160, 97}, {83, 12, 32}, {40, 100, 3}}) {
    const at::Tensor x = at::randn({rows, in}), weight = weights({out, in}), bias = at::randn({out}),
                     y = at::empty({rows, out}), gate = at::randn({out});
    const PackedProduct product(weight, bias, PackedProduct::Form::kTiles);
    EXPECT_EQ(product.columns(), out);
    EXPECT_EQ(product.depth(), in);
    product(of(x), rows, of(y));
    const at::Tensor expected = at::linear(x.to(at::kDouble), weight.to(at::kDouble), bias.to(at::kDouble)).to(at::kFloat);
    EXPECT_TRUE(testing::is_close(y, expected, kSixteenDigits)) << rows << ' ' << in << ' ' << out;
    const at::Tensor sum = at::randn({rows, out}), before = sum.clone();
    product(of(x), rows, of(sum), Then::kAddGated, of(gate));
    EXPECT_TRUE(testing::is_close(sum, before + gate * expected, kSixteenDigits));
    product(of(x), rows, of(sum), Then::kAdd);
    EXPECT_TRUE(testing::is_close(sum, before + (gate + 1) * expected, kSixteenDigits));
  }
}

TEST_F(TileRowsTest, TapsAndScatteredRowsAreGathered) {
  const int64_t rows = 19, depth = 21, taps = 3, columns = 45;
  const at::Tensor in = at::randn({200}), weight = weights({columns, depth, 1, taps}), bias = at::randn({columns});
  std::vector<int64_t> from, to;
  for (int64_t i = 0; i < rows; ++i) {
    from.push_back(7 * i);
    to.push_back(columns * (rows - 1 - i));
  }
  const std::array<int64_t, 3> tap = {0, 5, 31};
  const at::Tensor tiles = at::zeros({rows * columns}), vectors = at::zeros({rows * columns});
  PackedProduct(weight, bias, PackedProduct::Form::kTiles)(of(in), from, tap, of(tiles), to);
  PackedProduct(weight, bias, PackedProduct::Form::kVectors)(of(in), from, tap, of(vectors), to);
  EXPECT_TRUE(testing::is_close(tiles, vectors, kSixteenDigits));
}

TEST_F(TileRowsTest, ARowDoesNotDependOnItsNeighbours) {
  const at::Tensor weight = weights({50, 40}), bias = at::randn({50}), x = at::randn({37, 40}), all = at::empty({37, 50}),
                   one = at::empty({50});
  const PackedProduct product(weight, bias, PackedProduct::Form::kTiles);
  product(of(x), 37, of(all));
  for (int64_t i = 0; i < 37; ++i) {
    product(of(x) + 40 * i, 1, of(one));
    EXPECT_TRUE(one.equal(all[i])) << i;
  }
}

TEST_F(TileRowsTest, TheProcessorAndItsEmulationAgreeToTheBit) {
  if (!kernels::has_tiles()) GTEST_SKIP() << "this processor has no tiles";
  constexpr int64_t kDepth = 64, kRows = 70;
  const std::array<int64_t, 2> taps = {0, 3};
  for (const int64_t rows : {5, 32, 45})
    for (const int64_t columns : {7, 32, 50}) {
      const at::Tensor x = at::randn({kRows, kDepth}), bias = at::randn({64});
      const at::Tensor weight = at::randn({2 * kDepth * 64}).to(at::kBFloat16);
      const at::Tensor split = at::empty({kRows, kernels::split_stride(kDepth)}, at::kShort);
      std::vector<int64_t> in_rows, out_rows;
      for (int64_t i = 0; i < kRows; ++i) in_rows.push_back(i * kDepth);
      for (int64_t i = 0; i < rows; ++i) out_rows.push_back(i % 6 == 5 ? -1 : i * columns);
      const int64_t here = 0;
      auto* const parts = reinterpret_cast<uint16_t*>(split.mutable_data_ptr());
      kernels::split_rows({of(x), in_rows.data(), kRows, &here, 1, kDepth, parts});
      const auto made = [&](TileMachine machine) {
        const at::Tensor out = at::zeros({rows, columns});
        kernels::tile_rows({.in = parts,
                            .row_count = rows,
                            .taps = taps.data(),
                            .tap_count = 2,
                            .depth = kDepth,
                            .weight = static_cast<const uint8_t*>(weight.const_data_ptr()),
                            .bias = of(bias),
                            .columns = columns,
                            .out = of(out),
                            .out_rows = out_rows.data(),
                            .machine = machine});
        return out;
      };
      const at::Tensor emulated = made(TileMachine::kEmulated);
      EXPECT_TRUE(made(TileMachine::kProcessor).equal(emulated)) << rows << ' ' << columns;
      EXPECT_NE(emulated[0].abs().sum().item<float>(), 0);
    }
}

TEST_F(TileRowsTest, WeightsOfMoreDigitsAreRefused) {
  EXPECT_FALSE(ops::fits_tile_rows(at::randn({3, 4})));
  EXPECT_TRUE(ops::fits_tile_rows(weights({3, 4})));
  try {
    PackedProduct(at::randn({3, 4}), at::randn({3}), PackedProduct::Form::kTiles);
    FAIL() << "was taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("bfloat16"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace orrery
