#include "orrery/metrics.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "guarded.h"
#include "orrery/error.h"

namespace orrery {
namespace {

void check(const Video& actual, const Video& expected, const char* measure) {
  for (const Video* video : {&actual, &expected}) {
    const at::Tensor& frames = video->frames;
    if (!frames.defined() || frames.dim() != 4 || frames.size(3) != 3 || frames.scalar_type() != at::kByte || frames.numel() == 0) {
      throw Error(ErrorKind::kArgument, {.place = measure, .what = "there is nothing to compare", .expected = "uint8 [T,H,W,3]"});
    }
  }
  if (actual.frames.sizes() == expected.frames.sizes()) return;
  const auto shape = [](const Video& video) {
    return std::to_string(video.num_frames()) + " frames of " + std::to_string(video.width()) + "x" + std::to_string(video.height());
  };
  throw Error(ErrorKind::kArgument, {.place = measure, .what = "the two clips differ in shape", .expected = shape(expected),
                                     .got = shape(actual)});
}

// [side]: the Gaussian of sigma 1.5, or its middle where the picture is smaller; sums to 1.
at::Tensor window(int64_t side) {
  const int64_t radius = std::min<int64_t>(5, (side - 1) / 2);
  const at::Tensor distance = at::arange(-radius, radius + 1, at::kDouble);
  const at::Tensor weights = at::exp(distance.square().mul(-0.5 / (1.5 * 1.5)));
  return weights.div(weights.sum());
}

}  // namespace

double psnr(const Video& actual, const Video& expected) try {
  check(actual, expected, "psnr");
  const c10::NoGradGuard guard;
  double sum = 0;  // frame by frame, so that no wide copy of a long clip is made
  for (int64_t i = 0; i < actual.num_frames(); ++i) {
    sum += (actual.frames[i].to(at::kInt) - expected.frames[i].to(at::kInt)).square().sum().item<int64_t>();
  }
  if (sum == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(255.0 * 255.0 * static_cast<double>(actual.frames.numel()) / sum);
} catch (...) {
  rethrow_as_error("psnr");
}

double ssim(const Video& actual, const Video& expected) try {
  check(actual, expected, "ssim");
  const c10::NoGradGuard guard;
  const at::Tensor column = window(actual.height()).view({1, 1, -1, 1}), row = window(actual.width()).view({1, 1, 1, -1});
  const auto mean_of = [&](const at::Tensor& x) { return at::conv2d(at::conv2d(x, column), row); };  // where the window fits
  constexpr double c1 = (0.01 * 255) * (0.01 * 255), c2 = (0.03 * 255) * (0.03 * 255);
  double sum = 0;
  for (int64_t i = 0; i < actual.num_frames(); ++i) {
    // [H,W,3] → [3,1,H,W]
    const at::Tensor x = actual.frames[i].permute({2, 0, 1}).unsqueeze(1).to(at::kDouble);
    const at::Tensor y = expected.frames[i].permute({2, 0, 1}).unsqueeze(1).to(at::kDouble);
    const at::Tensor mx = mean_of(x), my = mean_of(y);
    const at::Tensor vx = mean_of(x * x) - mx * mx, vy = mean_of(y * y) - my * my, vxy = mean_of(x * y) - mx * my;
    const at::Tensor map = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2));
    sum += map.mean().item<double>();
  }
  return sum / static_cast<double>(actual.num_frames());
} catch (...) {
  rethrow_as_error("ssim");
}

}  // namespace orrery
