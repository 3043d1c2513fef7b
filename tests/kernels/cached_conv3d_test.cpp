#include "ops/cached_conv3d.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/machines.h"
#include "ops/dispatch.h"

namespace orrery::testing {
namespace {

using ::testing::HasSubstr;

struct Case {
  int64_t batch, frames, cache, height, width, in, out, kernel_t, kernel_s;
  ops::CachedConv3dForm form;
};

// The long way: everything joined, upsampled, normalised and padded in memory, in float64.
at::Tensor formula(const Case& c, const at::Tensor& x, const at::Tensor& cache, const at::Tensor& weight,
                   const at::Tensor& bias, const at::Tensor& residual, const at::Tensor& gamma) {
  at::Tensor clip = at::cat({cache, x}, 1).to(at::kDouble);
  if (gamma.defined()) {
    const at::Tensor norm = clip.square().sum(-1, true).sqrt().clamp_min(1e-12);
    clip = at::silu(clip / norm * std::sqrt(static_cast<double>(c.in)) * gamma).to(x.scalar_type()).to(at::kDouble);
  }
  const int64_t past = c.form.past >= 0 ? c.form.past : c.kernel_t - c.form.stride_t, missing = past - c.cache;
  if (missing > 0) {
    const at::Tensor first = clip.narrow(1, 0, 1).expand({-1, missing, -1, -1, -1});
    clip = at::cat({c.form.replicate ? first : at::zeros_like(first), clip}, 1);
  } else {
    clip = clip.narrow(1, -missing, clip.size(1) + missing);
  }
  clip = clip.repeat_interleave(c.form.upsample, 2).repeat_interleave(c.form.upsample, 3).permute({0, 4, 1, 2, 3});
  if (c.form.stride_s == 2) clip = at::constant_pad_nd(clip, {0, c.kernel_s / 2, 0, c.kernel_s / 2});
  const int64_t pad = c.form.stride_s == 2 ? 0 : c.kernel_s / 2;
  const at::Tensor y = at::conv3d(clip, weight.to(at::kDouble).permute({0, 4, 1, 2, 3}), bias.to(at::kDouble),
                                  {c.form.stride_t, c.form.stride_s, c.form.stride_s}, {0, pad, pad});
  return y.permute({0, 2, 3, 4, 1}) + residual;
}

const Case kCases[] = {
    {1, 1, 0, 1, 1, 8, 1, 1, 1, {}},
    {2, 3, 2, 5, 7, 16, 9, 3, 3, {}},                  // a chunk in mid-stream, odd sizes
    {1, 2, 0, 4, 3, 40, 66, 3, 3, {}},                 // the beginning: zeros before it; the last depth tile is not full
    {1, 3, 1, 3, 3, 8, 5, 3, 3, {.replicate = true}},  // one frame remembered, its copies before it
    {2, 4, 1, 3, 5, 24, 7, 3, 1, {.stride_t = 2}},     // halves time
    {1, 2, 0, 6, 4, 8, 3, 1, 3, {.stride_s = 2}},      // halves the picture
    {1, 1, 0, 5, 3, 16, 10, 1, 3, {.upsample = 2}},    // doubles it first
};

TEST(CachedConv3dTest, IsTheConvolutionOfTheJoinedClip) {
  at::manual_seed(4);
  for (const Case& c : kCases) {
    for (const bool fused : {false, true}) {
      const at::ScalarType type = fused ? at::kHalf : at::kBFloat16;
      SCOPED_TRACE(::testing::PrintToString(&c - kCases) + " " + at::toString(type) + (fused ? " fused" : ""));
      const at::Tensor x = at::randn({c.batch, c.frames, c.height, c.width, c.in}).to(type);
      const at::Tensor cache = at::randn({c.batch, c.cache, c.height, c.width, c.in}).to(type);
      const at::Tensor weight = at::randn({c.out, c.kernel_t, c.kernel_s, c.kernel_s, c.in}).to(type);
      const at::Tensor bias = at::randn({c.out}), gamma = fused ? at::randn({c.in}) : at::Tensor();
      const at::Tensor none = at::zeros({1}).to(type);
      const at::Tensor shape = formula(c, x, cache, weight, bias, none, gamma);
      const at::Tensor residual = at::randn(shape.sizes()).to(type);
      expect_on_all_machines(formula(c, x, cache, weight, bias, residual, gamma), [&](const Bring& on) {
        return ops::cached_conv3d(on(x), c.cache > 0 ? on(cache) : at::Tensor(), on(weight), on(bias), on(residual),
                                  on(gamma), c.form);
      });
    }
  }
}

TEST(CachedConv3dTest, TooFewFramesGiveNone) {
  const at::Tensor cache = at::ones({1, 2, 3, 3, 8}).to(at::kHalf), weight = at::ones({4, 3, 3, 3, 8}).to(at::kHalf);
  for (const Machine& machine : machines()) {
    const at::Tensor out = machine.run([&](const Bring& on) {
      return ops::cached_conv3d(on(cache.narrow(1, 0, 0)), on(cache), on(weight), {}, {}, {}, {});
    });
    EXPECT_EQ(out.sizes(), at::IntArrayRef({1, 0, 3, 3, 4})) << machine.name;
  }
}

TEST(CachedConv3dTest, ChunkByChunkIsWhole) {
  const at::Tensor clip = at::randn({1, 5, 3, 4, 16}).to(at::kBFloat16),
                   weight = at::randn({8, 3, 3, 3, 16}).to(at::kBFloat16);
  for (const Machine& machine : machines()) {
    const auto run = [&](int64_t from, int64_t count) {
      const at::Tensor cache =
          from > 0 ? clip.narrow(1, std::max<int64_t>(0, from - 2), std::min<int64_t>(2, from)) : at::Tensor();
      return machine.run([&](const Bring& on) {
        return ops::cached_conv3d(on(clip.narrow(1, from, count)), on(cache), on(weight), {}, {}, {}, {});
      });
    };
    EXPECT_TRUE(at::cat({run(0, 1), run(1, 1), run(2, 3)}, 1).equal(run(0, 5))) << machine.name;
  }
}

TEST(CachedConv3dTest, RefusesByName) {
  const at::Tensor x = at::randn({1, 2, 3, 3, 8}).to(at::kHalf), weight = at::randn({4, 3, 3, 3, 8}).to(at::kHalf);
  const auto conv = [&](const at::Tensor& x, const at::Tensor& cache, const at::Tensor& weight) {
    return error_of([&] { return ops::cached_conv3d(x, cache, weight, {}, {}, {}, {}); });
  };
  EXPECT_THAT(conv(x.transpose(2, 3), {}, weight), HasSubstr("cached_conv3d: x: must be contiguous"));
  EXPECT_THAT(conv(x, x.narrow(2, 0, 2), weight), HasSubstr("cache: has the wrong shape; expected [1, -1, 3, 3, 8]"));
  EXPECT_THAT(conv(x, {}, weight.to(at::kFloat)), HasSubstr("weight: has the wrong dtype"));
  EXPECT_THAT(conv(x, {}, at::randn({4, 3, 3, 1, 8}).to(at::kHalf)), HasSubstr("weight: must have a square kernel"));
  const ops::ScopedKernels as_on_a_gpu([](const char*) -> void* { return nullptr; });
  EXPECT_THAT(conv(x.to(at::kFloat), {}, weight.to(at::kFloat)), HasSubstr("x: has no kernel on the GPU"));
}

}  // namespace
}  // namespace orrery::testing
