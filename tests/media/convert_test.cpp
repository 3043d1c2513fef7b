#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "media/pixels.h"
#include "orrery/error.h"
#include "orrery/log.h"
#include "orrery/video.h"

namespace orrery {
namespace {

TEST(ConvertTest, EveryByteSurvivesTheWayToTheNetworkAndBack) {
  const at::Tensor frames = at::arange(2 * 4 * 32 * 3).remainder(256).to(at::kByte).view({2, 4, 32, 3});
  const at::Tensor sample = to_input({frames, 8});
  ASSERT_EQ(sample.sizes(), (at::IntArrayRef{1, 3, 2, 4, 32}));
  EXPECT_EQ(sample.scalar_type(), at::kFloat);
  EXPECT_TRUE(sample.is_contiguous());
  EXPECT_EQ(sample[0][1][1][2][3].item<float>(), frames[1][2][3][1].item<float>() / 127.5f - 1);
  const Video back = to_video(sample, 8);
  EXPECT_TRUE(back.frames.equal(frames));
  EXPECT_TRUE(back.frames.is_contiguous());
  EXPECT_EQ(back.fps, 8);
  EXPECT_TRUE(to_video(sample[0].transpose(0, 1), 8).frames.equal(frames));  // as a world's step returns them
}

TEST(ConvertTest, ValuesOutsideTheRangeAreClampedAndHalvesRounded) {
  const at::Tensor sample = at::tensor({-7.0, -1.0, -0.003, 0.0045, 1.0, 1.2}).view({1, 1, 1, 1, 6}).expand({1, 3, 1, 1, 6});
  const std::vector<int> expected = {0, 0, 127, 128, 255, 255};
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const at::Tensor row = to_video(sample.to(type), 0).frames[0][0];
    for (int x = 0; x < 6; ++x) EXPECT_EQ(row[x][2].item<int>(), expected[x]) << type << " " << x;
  }
}

TEST(ConvertTest, OtherShapesAndValuesAreRefused) {
  EXPECT_THROW(to_input({at::zeros({2, 4, 4, 3}), 8}), Error);
  EXPECT_THROW(to_input({}), Error);
  EXPECT_THROW(to_video(at::zeros({2, 3, 1, 4, 4}), 8), Error);
  EXPECT_THROW(to_video(at::zeros({1, 4, 1, 4, 4}), 8), Error);
  EXPECT_THROW(to_video(at::zeros({3, 4, 4, 4}), 8), Error);
  EXPECT_THROW(to_video(at::zeros({3, 4, 4}), 8), Error);
  EXPECT_THROW(to_video(at::zeros({1, 3, 1, 4, 4}, at::kByte), 8), Error);
  EXPECT_THROW(to_video(at::full({1, 3, 1, 4, 4}, NAN), 8), Error);
}

TEST(OrientationTest, ASlantIsToldAndReadAtTheNearestQuarterTurn) {
  constexpr int32_t kOne = 65536, kTilted = 46341, kLittle = 11380;  // 1, cos 45°, sin 10°
  std::vector<std::string> said;
  set_log_sink([&](LogLevel, std::string_view message) { said.emplace_back(message); });
  const int32_t quarter[9] = {0, kOne, 0, -kOne, 0, 0, 0, 0, 1 << 30};
  EXPECT_TRUE(media::orientation_of(quarter).transpose);
  EXPECT_THAT(said, ::testing::IsEmpty());
  const int32_t slanted[9] = {kTilted, kTilted, 0, -kTilted, kTilted, 0, 0, 0, 1 << 30};
  EXPECT_FALSE(media::orientation_of(slanted).transpose);
  const int32_t tipped[9] = {kLittle, kOne, 0, -kOne, kLittle, 0, 0, 0, 1 << 30};
  EXPECT_TRUE(media::orientation_of(tipped).transpose);
  set_log_sink({});
  EXPECT_THAT(said, ::testing::ElementsAre(::testing::HasSubstr("at a slant"), ::testing::HasSubstr("at a slant")));
}

}  // namespace
}  // namespace orrery
