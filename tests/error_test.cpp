#include "orrery/error.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "guarded.h"
#include "support/errors.h"

namespace orrery {
namespace {

TEST(ErrorTest, MessageNamesPlaceExpectedGotAndHint) {
  Error error(ErrorKind::kWeights, {"a.safetensors: w", "has the wrong shape", "[2, 3]", "[3, 2]", "is it another model?"});
  EXPECT_STREQ(error.what(), "weights: a.safetensors: w: has the wrong shape; expected [2, 3], got [3, 2]; is it another model?");
}

TEST(ErrorTest, EmptyPartsAreLeftOut) {
  EXPECT_STREQ(Error(ErrorKind::kMedia, {.place = "a.mp4", .what = "is empty"}).what(), "media: a.mp4: is empty");
}

// How LibTorch tells of a kernel's fault, long after the kernel.
TEST(ErrorTest, AFaultOfCudaSaysHowToFindItsKernel) {
  const std::string error = testing::error_of(
      [] {
        guarded("decode", [] { TORCH_CHECK(false, "CUDA error: an illegal memory access was encountered\nmore"); });
      },
      ErrorKind::kDevice);
  EXPECT_EQ(error, "device: decode: CUDA error: an illegal memory access was encountered; CUDA_LAUNCH_BLOCKING=1 names the "
                   "kernel; this process can go on with the device cpu only");
}

}  // namespace
}  // namespace orrery
