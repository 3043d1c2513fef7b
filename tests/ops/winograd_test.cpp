#include "ops/winograd.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "orrery/error.h"
#include "support/compare.h"

namespace orrery::ops {
namespace {

using testing::is_close;
using testing::kSameMath;

// The plain twin: zeros before the clip and around it, at::conv3d in float64.
at::Tensor plain(const std::vector<at::Tensor>& history, const at::Tensor& x, const Winograd3x3& conv) {
  std::vector<at::Tensor> frames;
  for (const at::Tensor& frame : history) frames.push_back(frame.defined() ? frame : at::zeros_like(x.narrow(1, 0, 1)));
  frames.push_back(x);
  at::Tensor clip = at::cat(frames, 1).to(at::kDouble);
  if (conv.doubled) clip = clip.repeat_interleave(2, 2).repeat_interleave(2, 3);
  const at::Tensor weight = conv.weight.dim() == 4 ? conv.weight.unsqueeze(2) : conv.weight;
  const at::Tensor bias = conv.bias.defined() ? conv.bias.to(at::kDouble) : at::Tensor();
  at::Tensor y =
      at::conv3d(clip.permute({0, 4, 1, 2, 3}), weight.to(at::kDouble), bias, {1, 1, 1}, {0, 1, 1}).permute({0, 2, 3, 4, 1});
  if (conv.residual.defined()) y = y + conv.residual;
  return y.to(at::kFloat);
}

std::vector<at::Tensor> history_of(const at::Tensor& x, int64_t frames, int64_t unknown = 0) {
  std::vector<at::Tensor> history(static_cast<size_t>(frames));
  for (int64_t i = unknown; i < frames; ++i) history[i] = at::randn_like(x.narrow(1, 0, 1));
  return history;
}

struct Case {
  int64_t batch, frames, height, width, in, out, taps;
};

class WinogradTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override { at::manual_seed(0); }
};

TEST_P(WinogradTest, IsTheConvolution) {
  const Case c = GetParam();
  const at::Tensor x = at::randn({c.batch, c.frames, c.height, c.width, c.in});
  const at::Tensor weight = at::randn({c.out, c.in, c.taps, 3, 3}), bias = at::randn({c.out});
  for (int64_t unknown = 0; unknown < c.taps; ++unknown) {
    const auto history = history_of(x, c.taps - 1, unknown);
    const Winograd3x3 conv{.weight = weight, .bias = bias};
    EXPECT_TRUE(is_close(winograd_3x3(history, x, conv), plain(history, x, conv), kSameMath)) << unknown;
  }
  const at::Tensor residual = at::randn({c.batch, c.frames, 2 * c.height, 2 * c.width, c.out});
  const auto history = history_of(x, c.taps - 1);
  const Winograd3x3 conv{.weight = weight, .bias = {}, .residual = residual, .doubled = true};
  EXPECT_TRUE(is_close(winograd_3x3(history, x, conv), plain(history, x, conv), kSameMath));
}

INSTANTIATE_TEST_SUITE_P(Shapes, WinogradTest,
                         ::testing::Values(Case{1, 1, 1, 1, 1, 1, 1},        //
                                           Case{2, 3, 5, 7, 3, 17, 1},       //
                                           Case{1, 1, 8, 4, 16, 32, 3},      //
                                           Case{2, 2, 13, 11, 20, 35, 3},    //
                                           Case{1, 5, 4, 9, 33, 5, 3},       //
                                           Case{1, 2, 1, 30, 7, 48, 3},      //
                                           Case{3, 3, 6, 6, 5, 16, 2},       //
                                           Case{1, 2, 29, 31, 40, 96, 3}));  // several blocks of tiles

TEST(WinogradTest, ReadsFramesOfALongerClipAndNarrowWeights) {
  at::manual_seed(1);
  const at::Tensor clip = at::randn({2, 7, 9, 10, 18}), weight = at::randn({20, 18, 3, 3, 3}).to(at::kBFloat16),
                   bias = at::randn({20});
  const std::vector<at::Tensor> history{clip.narrow(1, 1, 1), clip.narrow(1, 2, 1)};
  const at::Tensor x = clip.narrow(1, 3, 3);
  const Winograd3x3 conv{.weight = weight, .bias = bias};
  EXPECT_TRUE(is_close(winograd_3x3(history, x, conv), plain(history, x, conv), kSameMath));
  const at::Tensor rows_first = x.permute({0, 1, 4, 2, 3}).contiguous().permute({0, 1, 3, 4, 2});
  EXPECT_TRUE(at::equal(winograd_3x3(history, rows_first, conv), winograd_3x3(history, x, conv)));
}

// More transformed weights than are held at once.
TEST(WinogradTest, TakesManyChannelsInParts) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({1, 2, 3, 2, 400}), weight = at::randn({320, 400, 3, 3, 3}), bias = at::randn({320});
  const auto history = history_of(x, 2);
  const at::Tensor residual = at::randn({1, 2, 3, 2, 320});
  const Winograd3x3 conv{.weight = weight, .bias = bias, .residual = residual};
  EXPECT_TRUE(is_close(winograd_3x3(history, x, conv), plain(history, x, conv), kSameMath));
}

TEST(WinogradTest, NothingInNothingOut) {
  const at::Tensor weight = at::randn({4, 3, 3, 3, 3});
  const at::Tensor y = winograd_3x3({{}, {}}, at::empty({1, 0, 5, 6, 3}), {.weight = weight, .bias = {}});
  EXPECT_EQ(y.sizes(), at::IntArrayRef({1, 0, 5, 6, 4}));
}

TEST(WinogradTest, RefusesWhatDoesNotFit) {
  const at::Tensor x = at::randn({1, 2, 5, 6, 3}), weight = at::randn({4, 3, 3, 3, 3});
  const Winograd3x3 conv{.weight = weight, .bias = {}};
  EXPECT_THROW(winograd_3x3({{}}, x, conv), Error);  // two taps wanted, three there
  EXPECT_THROW(winograd_3x3({{}, {}}, x.to(at::kDouble), conv), Error);
  EXPECT_THROW(winograd_3x3({{}, {}}, x.squeeze(0), conv), Error);
  EXPECT_THROW(winograd_3x3({{}, at::randn({1, 1, 5, 7, 3})}, x, conv), Error);
  const at::Tensor other = at::randn({1, 2, 5, 6, 5});
  EXPECT_THROW(winograd_3x3({{}, {}}, x, {.weight = weight, .bias = {}, .residual = other}), Error);
}

}  // namespace
}  // namespace orrery::ops
