#include "models/cosmos/quantizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "orrery/error.h"
#include "support/compare.h"

namespace orrery::models {
namespace {

TEST(FSQuantizerTest, EveryIndexSurvivesTheWayToItsCodeAndBack) {
  const FSQuantizer quantizer({8, 8, 8, 5, 5, 5});
  EXPECT_EQ(quantizer.vocabulary(), 64000);
  const at::Tensor indices = at::arange(64000, at::kInt).view({1, 20, 32, 100});
  const at::Tensor codes = quantizer.indices_to_codes(indices);
  EXPECT_EQ(codes.sizes(), at::IntArrayRef({1, 20, 32, 100, 6}));
  EXPECT_TRUE(at::equal(quantizer.codes_to_indices(codes), indices));
}

TEST(FSQuantizerTest, TheFirstNumberCountsFastest) {
  const FSQuantizer quantizer({8, 5});
  const at::Tensor codes = quantizer.indices_to_codes(at::tensor({0, 1, 7, 8, 39}, at::kInt));
  const at::Tensor expected =
      at::tensor({-1.0, -1.0, -0.75, -1.0, 0.75, -1.0, -1.0, -0.5, 0.75, 1.0}, at::kFloat).view({5, 2});
  EXPECT_TRUE(at::equal(codes, expected));
}

TEST(FSQuantizerTest, RoundsToTheNearestLevelAndSaturates) {
  const FSQuantizer quantizer({8, 5});
  const at::Tensor z = at::tensor({0.0, 0.0, 100.0, 100.0, -100.0, -100.0, 0.3, 0.3}, at::kFloat).view({4, 2});
  // Even counts reach from -1 to one level below 1; odd ones are symmetric.
  const at::Tensor expected = at::tensor({0.0, 0.0, 0.75, 1.0, -1.0, -1.0, 0.25, 0.5}, at::kFloat).view({4, 2});
  EXPECT_TRUE(at::equal(quantizer.quantize(z).first, expected));
}

TEST(FSQuantizerTest, RefusesAnIndexOutsideItsVocabulary) {
  const FSQuantizer quantizer({3, 3});
  EXPECT_NO_THROW(quantizer.indices_to_codes(at::tensor({8}, at::kInt)));
  EXPECT_THROW(quantizer.indices_to_codes(at::tensor({9}, at::kInt)), Error);
  EXPECT_THROW(quantizer.indices_to_codes(at::tensor({-1}, at::kInt)), Error);
}

}  // namespace
}  // namespace orrery::models
