#include "orrery/nv12.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <utility>
#include <vector>

#include "media/pixels.h"
#include "support/compare.h"
#include "support/errors.h"
#include "support/far_device.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

// A picture whose colours change slowly, as most of a photograph's do, but for a few noisy levels of luma.
Nv12 smooth(int64_t frames, int64_t height, int64_t width) {
  at::manual_seed(8);
  const auto waves = [](const at::Tensor& x, double least, double most) {
    return (least + (most - least) * (0.5 + 0.5 * x.sin())).round().to(at::kByte);
  };
  const at::Tensor t = at::arange(frames).view({-1, 1, 1}), y = at::arange(height).view({1, -1, 1}) / 70.0,
                   x = at::arange(width).view({1, 1, -1}) / 90.0;
  const at::Tensor luma = waves(x + y + t, 30, 220) + at::randint(0, 5, {frames, height, width}).to(at::kByte);
  const at::Tensor half_y = y.slice(1, 0, height / 2) * 2, half_x = x.slice(2, 0, width / 2) * 2;
  return {luma, at::stack({waves(half_x - half_y + t, 90, 160), waves(half_x + half_y * 2 - t, 90, 160)}, -1)};
}

// The same frame through swscale.
at::Tensor by_swscale(const Nv12& frames, int64_t t) {
  const media::FramePtr frame = media::new_frame();
  frame->format = AV_PIX_FMT_NV12;
  frame->height = static_cast<int>(frames.luma.size(1));
  frame->width = static_cast<int>(frames.luma.size(2));
  frame->colorspace = frames.matrix == ColourMatrix::kBt709 ? AVCOL_SPC_BT709 : AVCOL_SPC_SMPTE170M;
  frame->color_range = frames.full_range ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
  EXPECT_GE(av_frame_get_buffer(frame.get(), 0), 0);
  const auto fill = [&](int plane, const at::Tensor& bytes) {  // [rows, bytes of a row]
    const at::Tensor whole = bytes.contiguous();
    for (int64_t row = 0; row < whole.size(0); ++row)
      std::memcpy(frame->data[plane] + row * frame->linesize[plane], whole[row].const_data_ptr(), whole.size(1));
  };
  fill(0, frames.luma[t]);
  fill(1, frames.chroma[t].flatten(1));
  return media::RgbConverter(/*stills=*/false)(*frame, {});
}

TEST(Nv12Test, IsWhatSwscaleMakesOfIt) {
  Nv12 frames = smooth(2, 48, 70);
  frames.fps = 30;
  std::vector<at::Tensor> seen;
  for (const ColourMatrix matrix : {ColourMatrix::kBt601, ColourMatrix::kBt709})
    for (const bool full : {false, true}) {
      frames.matrix = matrix;
      frames.full_range = full;
      const Video video = to_video(frames);
      ASSERT_EQ(video.frames.sizes(), (at::IntArrayRef{2, 48, 70, 3}));
      EXPECT_EQ(video.fps, 30);
      for (int64_t t = 0; t < 2; ++t)
        EXPECT_TRUE(testing::is_close(video.frames[t].to(at::kFloat), by_swscale(frames, t).to(at::kFloat),
                                      testing::kOtherColourTables))
            << t << (full ? " full" : " studio");
      for (const at::Tensor& other : seen)
        EXPECT_FALSE(testing::is_close(video.frames.to(at::kFloat), other.to(at::kFloat), testing::kOtherColourTables))
            << "matrix or range make no difference";
      seen.push_back(video.frames);
    }
}

TEST(Nv12Test, WhiteBlackAndRedAreThemselves) {
  const auto one = [](int luma, int cb, int cr, bool full) {
    const at::Tensor chroma = at::tensor({cb, cr}).to(at::kByte).view({1, 1, 1, 2});
    return to_video(Nv12{.luma = at::full({1, 2, 2}, luma, at::kByte), .chroma = chroma, .full_range = full})
        .frames[0][1][0];
  };
  const auto rgb = [](int r, int g, int b) { return at::tensor({r, g, b}).to(at::kByte); };
  EXPECT_TRUE(one(235, 128, 128, false).equal(rgb(255, 255, 255)));
  EXPECT_TRUE(one(16, 128, 128, false).equal(rgb(0, 0, 0)));
  EXPECT_TRUE(one(0, 128, 128, false).equal(rgb(0, 0, 0))) << "blacker than black is cut off";
  EXPECT_TRUE(one(255, 128, 128, true).equal(rgb(255, 255, 255)));
  const at::Tensor red = one(63, 102, 240, false).to(at::kInt);  // BT.709's, rounded to bytes
  EXPECT_LE((red - rgb(255, 0, 0).to(at::kInt)).abs().max().item<int>(), 1);
}

TEST(Nv12Test, InputIsTheVideosButForRounding) {
  const Nv12 frames = smooth(3, 6, 10);
  const at::Tensor input = to_input(frames), rounded = to_input(to_video(frames));
  EXPECT_EQ(input.sizes(), (at::IntArrayRef{1, 3, 3, 6, 10}));
  EXPECT_LE((input - rounded).abs().max().item<double>(), 0.5001 / 127.5);
  EXPECT_GT((input - rounded).abs().max().item<double>(), 0.2 / 127.5) << "it was rounded to bytes on its way";
  EXPECT_LE(input.abs().max().item<double>(), 1);
  // Rows with a pitch, as decoders give them.
  const Nv12 apart{at::stack({frames.luma, frames.luma}, 2).flatten(2).slice(2, 0, 10), frames.chroma};
  EXPECT_FALSE(apart.luma.is_contiguous());
  EXPECT_TRUE(to_input(apart).equal(input));
  const Nv12 none{at::empty({0, 4, 4}, at::kByte), at::empty({0, 2, 2, 2}, at::kByte)};
  EXPECT_EQ(to_input(none).sizes(), (at::IntArrayRef{1, 3, 0, 4, 4}));
  EXPECT_EQ(to_video(none).num_frames(), 0);
}

TEST(Nv12Test, OnAnotherDeviceTheBytesCrossAndTheKernelWorks) {
  const Nv12 frames = smooth(2, 6, 10);
  const at::Device far = testing::far_device();
  testing::take_far_launches();
  const at::Tensor input = to_input(frames, far);
  EXPECT_EQ(input.device(), far);
  EXPECT_TRUE(testing::is_close(input.cpu(), to_input(frames), testing::kSameMath));
  const Nv12 decoded{frames.luma.to(far), frames.chroma.to(far)};  // as a decoder on the device leaves them
  EXPECT_TRUE(to_video(decoded).frames.equal(to_video(frames).frames));
  EXPECT_TRUE(to_input(decoded, at::kCPU).equal(to_input(frames)));
  EXPECT_EQ(testing::take_far_launches()["orrery_cuda_frames"], 1 + 2 * 2);
}

TEST(Nv12Test, OtherPlanesAreRefused) {
  const Nv12 good = smooth(1, 4, 6);
  const auto refusal = [&](const at::Tensor& luma, const at::Tensor& chroma) {
    return testing::error_of([&] { to_input(Nv12{luma, chroma}); });
  };
  EXPECT_THAT(refusal(good.luma, {}), HasSubstr("luma uint8 [T,H,W] with H and W even"));
  EXPECT_THAT(refusal(good.luma.narrow(2, 0, 5), good.chroma), HasSubstr("got Byte [1,4,5] and Byte [1,2,3,2]"));
  EXPECT_THAT(refusal(good.luma.to(at::kFloat), good.chroma), HasSubstr("these are not frames in NV12"));
  EXPECT_THAT(refusal(good.luma, good.chroma.narrow(1, 0, 1)), HasSubstr("these are not frames in NV12"));
  EXPECT_THAT(refusal(good.luma.to(testing::far_device()), good.chroma), HasSubstr("these are not frames in NV12"));
}

}  // namespace
}  // namespace orrery
