#include "orrery/error.h"

#include <gtest/gtest.h>

namespace orrery {
namespace {

TEST(ErrorTest, MessageNamesPlaceExpectedGotAndHint) {
  Error error(ErrorKind::kWeights, {"a.safetensors: w", "has the wrong shape", "[2, 3]", "[3, 2]", "is it another model?"});
  EXPECT_STREQ(error.what(), "weights: a.safetensors: w: has the wrong shape; expected [2, 3], got [3, 2]; is it another model?");
}

TEST(ErrorTest, EmptyPartsAreLeftOut) {
  EXPECT_STREQ(Error(ErrorKind::kMedia, {.place = "a.mp4", .what = "is empty"}).what(), "media: a.mp4: is empty");
}

}  // namespace
}  // namespace orrery
