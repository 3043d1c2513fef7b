// Tensors of more than 2³¹ elements, on their indices: memory is only promised, and of the grid the last block alone runs.
// What is expected stands at places that the tests count themselves; a kernel that counts in 32 bits reads zeros, or faults.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "kernels/cached_conv3d.h"
#include "kernels/frames.h"
#include "kernels/fsq.h"
#include "kernels/int8_attention.h"
#include "kernels/machines.h"
#include "kernels/modulated_norm.h"
#include "kernels/paged_attention.h"
#include "kernels/patch.h"
#include "kernels/qk_norm_rope.h"
#include "kernels/quantized_linear.h"
#include "kernels/sampler_step.h"
#include "kernels/top_p.h"
#include "simt/simt.h"

namespace orrery::testing {
namespace {

constexpr int64_t k2To31 = int64_t{1} << 31;

// `launch` on each machine that is emulated, the last blocks of its grid alone; then `check`.
void at_the_end(const std::function<int()>& launch, const std::function<void()>& check, uint64_t blocks = 1) {
  for (const Machine& machine : machines()) {
    if (machine.name == "cpu" || machine.name == "GPU") continue;
    SCOPED_TRACE(machine.name);
    machine.run([&](const Bring&) {
      simt::setting().last_blocks = blocks;
      EXPECT_EQ(launch(), 0);
      return at::zeros({});
    });
    check();
  }
}

// The number at the end of a vector, or `back` before it.
double last(const at::Tensor& x, int64_t back = 0) {
  return x[x.numel() - 1 - back].item<double>();
}
void put_last(const at::Tensor& x, double value, int64_t back = 0) {
  x[x.numel() - 1 - back].fill_(value);
}

TEST(HugeTest, ModulatedNormAndGatedResidual) {
  constexpr int64_t kRows = (int64_t{1} << 28) + 5, kWidth = 9;
  const at::Tensor x = sparse(kRows * kWidth), residual = sparse(kRows * kWidth), out = sparse(kRows * kWidth);
  const at::Tensor gate = at::full({kWidth}, 10.0f);
  x.slice(0, (kRows - 1) * kWidth).fill_(3);
  put_last(residual, 0.5);
  kernels::ModulatedNorm norm;
  norm.rows = kRows, norm.width = norm.x_stride = norm.out_stride = kWidth;
  norm.x = x.data_ptr(), norm.out = out.data_ptr();
  at_the_end([&] { return orrery_cuda_modulated_norm(&norm, nullptr); },
             [&] {
               EXPECT_NEAR(last(out), 1, 1e-5);
               EXPECT_NEAR(last(out, kWidth - 1), 1, 1e-5);
             });
  kernels::GatedResidual p;
  p.rows = p.rows_per_group = kRows, p.width = p.x_stride = p.residual_stride = p.out_stride = kWidth;
  p.x = x.data_ptr(), p.residual = residual.data_ptr(), p.out = out.data_ptr();
  p.gate.values = gate.data_ptr<float>();
  at_the_end([&] { return orrery_cuda_gated_residual(&p, nullptr); },
             [&] {
               EXPECT_EQ(last(out), 30.5);
               EXPECT_EQ(last(out, 1), 30);
             });
}

TEST(HugeTest, QkNormRope) {
  constexpr int64_t kTokens = (int64_t{1} << 27) + 1, kHeads = 2, kWidth = 8;
  const at::Tensor x = sparse(kTokens * kHeads * kWidth, at::kBFloat16), out = sparse(x.numel(), at::kBFloat16);
  const at::Tensor cos = sparse(kTokens * kWidth / 2), sin = sparse(cos.numel());
  put_last(sin, 1);
  put_last(x, 5), put_last(x, 7, 4);  // the last pair of channels of the last head
  kernels::QkNormRope p;
  p.type = kernels::Number::kBFloat16;
  p.batch = 1, p.tokens = kTokens, p.heads = kHeads, p.width = kWidth;
  p.x = x.data_ptr(), p.x_token = kHeads * kWidth, p.x_batch = x.numel();
  p.out = out.data_ptr(), p.out_batch = x.numel(), p.out_head = kTokens * kWidth, p.out_token = kWidth;  // heads first
  p.cos = cos.data_ptr<float>(), p.sin = sin.data_ptr<float>();
  at_the_end([&] { return orrery_cuda_qk_norm_rope(&p, nullptr); },
             [&] {
               EXPECT_EQ(last(out), 7);
               EXPECT_EQ(last(out, 4), -5);
             });
}

TEST(HugeTest, CachedConv3d) {
  constexpr int64_t kFrames = 65537, kSide = 64, kChannels = 8, kFrame = kSide * kSide * kChannels;
  const at::Tensor x = sparse(kFrames * kFrame, at::kHalf), out = sparse(kFrames * kFrame, at::kHalf);
  const at::Tensor weight = at::zeros({kChannels, 3, 3, 3, kChannels}, at::kHalf);
  for (int64_t c = 0; c < kChannels; ++c) weight[c][2][1][1][c] = 1, weight[c][0][1][1][c] = 2;
  put_last(x, 5), put_last(x, 7, 2 * kFrame);
  kernels::CachedConv3d p;
  p.type = kernels::Number::kFloat16;
  p.batch = 1, p.in = p.out = kChannels, p.frames = p.out_t = kFrames, p.height = p.width = p.out_h = p.out_w = kSide;
  p.x = x.data_ptr(), p.weight = weight.data_ptr(), p.result = out.data_ptr();
  at_the_end([&] { return orrery_cuda_cached_conv3d(&p, nullptr); },
             [&] {
               EXPECT_EQ(last(out), 19);
               EXPECT_EQ(last(out, 1), 0);
             });
  const at::Tensor factor = sparse(x.numel() / kChannels);
  x.slice(0, x.numel() - kChannels).fill_(3);
  kernels::PixelFactor f;
  f.type = kernels::Number::kFloat16;
  f.count = factor.numel(), f.channels = kChannels, f.x = x.data_ptr(), f.factor = factor.data_ptr<float>();
  at_the_end([&] { return orrery_cuda_pixel_factor(&f, nullptr); }, [&] { EXPECT_NEAR(last(factor), 1.0 / 3, 1e-6); });
}

// Without scores the result is the values' mean.
TEST(HugeTest, PagedAttention) {
  constexpr int64_t kQueries = (int64_t{1} << 24) + 1, kPage = 256, kHeads = 2, kWidth = 64, kPageNumber = 70000;
  const at::Tensor query = sparse(kQueries * kHeads * kWidth, at::kHalf), out = sparse(query.numel(), at::kHalf);
  const at::Tensor keys = sparse((kPageNumber + 1) * kPage * kHeads * kWidth, at::kHalf),
                   values = sparse(keys.numel(), at::kHalf);
  const int64_t table = kPageNumber * kPage * kHeads * kWidth;
  const at::Tensor page = values.slice(0, kPageNumber * kPage * kHeads * kWidth).view({kPage, kHeads, kWidth});
  page[0][1][63] = 3, page[1][1][63] = 9;
  kernels::PagedAttention p;
  p.type = kernels::Number::kFloat16;
  p.batch = 1, p.queries = kQueries, p.heads = p.kv_heads = kHeads, p.width = kWidth;
  p.query = query.data_ptr(), p.query_token = kHeads * kWidth;
  p.keys = keys.data_ptr(), p.values = values.data_ptr(), p.key_pages = p.value_pages = &table;
  p.page_token = kHeads * kWidth, p.page_head = kWidth;
  p.table_stride = 1, p.page_tokens = kPage, p.ring = kPage, p.visible = 3, p.out = out.data_ptr();
  at_the_end([&] { return orrery_cuda_paged_attention(&p, nullptr); },
             [&] {
               EXPECT_EQ(last(out), 4);
               EXPECT_EQ(last(out, 1), 0);
             });
}

TEST(HugeTest, Int8Attention) {
  constexpr int64_t kQueries = (int64_t{1} << 25) + 1, kWidth = 64;
  const at::Tensor query = sparse(kQueries * kWidth, at::kChar), query_scale = sparse(kQueries),
                   out = sparse(query.numel(), at::kHalf);
  const at::Tensor key = at::zeros({2, kWidth}, at::kChar), key_scale = at::ones({2}),
                   value = sparse(k2To31 + 8 + kWidth, at::kHalf);
  put_last(value, 6);
  kernels::Int8Attention p;
  p.type = kernels::Number::kFloat16;
  p.batch = p.heads = 1, p.queries = kQueries, p.keys = 2, p.width = kWidth;
  p.query = query.data_ptr<int8_t>(), p.query_scale = query_scale.data_ptr<float>();
  p.key = key.data_ptr<int8_t>(), p.key_scale = key_scale.data_ptr<float>();
  p.value = value.data_ptr(), p.value_token = k2To31 + 8, p.out = out.data_ptr();
  at_the_end([&] { return orrery_cuda_int8_attention(&p, nullptr); },
             [&] {
               EXPECT_EQ(last(out), 3);
               EXPECT_EQ(last(out, 1), 0);
             });
  const at::Tensor rounded = sparse(query.numel(), at::kChar), scale = sparse(kQueries);
  put_last(out, 2), put_last(out, -1, 1);  // now what is rounded
  kernels::QuantizeHeads q;
  q.type = kernels::Number::kFloat16;
  q.batch = q.heads = 1, q.tokens = kQueries, q.width = kWidth, q.x = out.data_ptr(), q.x_token = kWidth;
  q.values = rounded.data_ptr<int8_t>(), q.scale = scale.data_ptr<float>();
  at_the_end([&] { return orrery_cuda_quantize_heads(&q, nullptr); },
             [&] {
               EXPECT_EQ(last(rounded), 127);
               EXPECT_EQ(last(rounded, 1), -64);
               EXPECT_NEAR(last(scale), 2.0 / 127, 1e-6);
             });
}

TEST(HugeTest, QuantizedLinear) {
  constexpr int64_t kOut = (int64_t{1} << 20) + 1, kIn = 2064;
  const at::Tensor x = at::ones({kIn}), weight = sparse(kOut * kIn, at::kChar), scale = at::full({kOut}, 0.5f),
                   y = sparse(kOut);
  weight.slice(0, weight.numel() - kIn).fill_(2);
  kernels::QuantizedLinear p;
  p.rows = 1, p.in = p.x_stride = kIn, p.out = kOut, p.x = x.data_ptr(), p.weight = weight.data_ptr();
  p.scale = scale.data_ptr<float>(), p.y = y.data_ptr();
  at_the_end([&] { return orrery_cuda_quantized_linear(&p, nullptr); }, [&] { EXPECT_EQ(last(y), kIn); });
}

TEST(HugeTest, SamplerStep) {
  constexpr int64_t kArea = (int64_t{1} << 30) + 5;
  const at::Tensor sample = sparse(2 * kArea), output = sparse(2 * kArea, at::kBFloat16), out = sparse(2 * kArea);
  put_last(sample, 3), put_last(output, 5);
  kernels::SamplerStep p;
  p.type = kernels::Number::kBFloat16;
  p.of_output = 2, p.channels = 2, p.frames = 1, p.area = kArea;
  p.sample = sample.data_ptr<float>(), p.output = output.data_ptr(), p.out = out.data_ptr<float>();
  at_the_end([&] { return orrery_cuda_sampler_step(&p, nullptr); },
             [&] {
               EXPECT_EQ(last(out), 13);
               EXPECT_EQ(last(out, 1), 0);
             });
}

TEST(HugeTest, TopP) {
  constexpr int64_t kApart = k2To31 + 8, kVocabulary = 50;
  const at::Tensor logits = sparse(2 * kApart + kVocabulary), tokens = at::zeros({3}, at::kInt);
  for (int64_t row = 0; row < 3; ++row) logits[row * kApart + 7 * row + 1] = 1000;
  kernels::TopP p;
  p.rows = 3, p.vocabulary = kVocabulary, p.stride = kApart, p.logits = logits.data_ptr(),
  p.tokens = tokens.data_ptr<int32_t>();
  at_the_end([&] { return orrery_cuda_top_p(&p, nullptr); },
             [&] {
               EXPECT_TRUE(tokens.equal(at::tensor({1, 8, 15}, at::kInt)));
               tokens.zero_();
             },
             3);
}

TEST(HugeTest, Fsq) {
  constexpr int64_t kRows = (int64_t{1} << 29) + 3, kDims = 4;
  const at::Tensor z = sparse(kRows * kDims), codes = sparse(kRows * kDims), indices = sparse(kRows, at::kInt);
  z.slice(0, (kRows - 1) * kDims).copy_(at::tensor({10.0f, -10.0f, 0.0f, 10.0f}));
  kernels::Fsq p;
  p.dims = kDims, p.rows = kRows, p.z_row = p.codes_row = kDims, p.z_dim = p.codes_dim = 1;
  for (int i = 0; i < kDims; ++i) p.levels[i] = 5, p.half_range[i] = 2.002f;
  p.z = z.data_ptr<float>(), p.codes = codes.data_ptr<float>(), p.indices = indices.data_ptr<int32_t>();
  const auto check = [&] {
    EXPECT_EQ(last(indices), 4 + 0 * 5 + 2 * 25 + 4 * 125);
    EXPECT_EQ(last(codes), 1);
    EXPECT_EQ(last(codes, 1), 0);
    EXPECT_EQ(last(codes, 2), -1);
    EXPECT_EQ(last(codes, 3), 1);
    codes.slice(0, (kRows - 1) * kDims).zero_();
  };
  at_the_end([&] { return orrery_cuda_fsq(&p, nullptr); }, check);
  p.z = nullptr;
  at_the_end([&] { return orrery_cuda_fsq(&p, nullptr); }, check);
}

TEST(HugeTest, Patch) {
  constexpr int64_t kSide = 13382, kChannels = 3;  // of patches of 2x2
  const at::Tensor pixels = sparse(kChannels * 4 * kSide * kSide, at::kHalf), patches = sparse(pixels.numel(), at::kHalf);
  ASSERT_GT(pixels.numel(), k2To31);
  put_last(pixels, 5), put_last(pixels, 7, 2 * kSide);  // of the last patch the lower right and upper right pixel
  kernels::Patch p;
  p.type = kernels::Number::kFloat16;
  p.batch = p.t = 1, p.channels = kChannels, p.h = p.w = kSide, p.in = pixels.data_ptr(), p.out = patches.data_ptr();
  p.pixel_row = 2 * kSide, p.pixel_channel = 4 * kSide * kSide;  // and one of four planes for each place in a patch
  p.patch_w = 1, p.patch_h = kSide, p.patch_channel = kSide * kSide, p.patch_kx = kChannels * p.patch_channel;
  p.patch_ky = 2 * p.patch_kx;
  at_the_end([&] { return orrery_cuda_patch(&p, nullptr); },
             [&] {
               EXPECT_EQ(last(patches), 5);
               EXPECT_EQ(last(patches, 2 * kChannels * kSide * kSide), 7);
             });
  p.to_pixels = p.haar = true, p.in = patches.data_ptr(), p.out = pixels.data_ptr();
  at_the_end([&] { return orrery_cuda_patch(&p, nullptr); },
             [&] {
               EXPECT_NEAR(last(pixels), -1, 0.01);
               EXPECT_NEAR(last(pixels, 2 * kSide), -6, 0.01);
             });
}

TEST(HugeTest, Frames) {
  constexpr int64_t kFrames = 700, kSide = 1024, kArea = kSide * kSide;
  const at::Tensor rgb = sparse(kFrames * kArea * 3, at::kByte), numbers = sparse(kFrames * kArea * 3, at::kHalf);
  ASSERT_GT(rgb.numel(), k2To31);
  put_last(rgb, 255), put_last(rgb, 255, 2);  // magenta
  kernels::Frames p;
  p.type = kernels::Number::kFloat16;
  p.frame = 3 * kArea, p.plane = kArea;
  p.frames = kFrames, p.in_h = p.in_w = p.out_h = p.out_w = kSide, p.bytes = rgb.data_ptr(), p.numbers = numbers.data_ptr();
  at_the_end([&] { return orrery_cuda_frames(&p, nullptr); },
             [&] {
               EXPECT_EQ(last(numbers), 1);
               EXPECT_EQ(last(numbers, kArea), -1);
               EXPECT_EQ(last(numbers, 2 * kArea), 1);
             });
  put_last(rgb, 0), put_last(rgb, 9, 1);
  p.to_numbers = false;
  at_the_end([&] { return orrery_cuda_frames(&p, nullptr); },
             [&] {
               EXPECT_EQ(last(rgb), 255);
               EXPECT_EQ(last(rgb, 1), 0);
             });
}

// A grid takes 2³¹ − 1 blocks along its first side; more must be refused, not cut.
TEST(HugeTest, MoreThanAGridHoldsIsRefused) {
  kernels::Fsq p;
  p.dims = 1, p.rows = (int64_t{1} << 40), p.levels[0] = 2;
  EXPECT_NE(orrery_cuda_fsq(&p, nullptr), 0);
  kernels::TopP t;
  t.rows = (int64_t{1} << 32) + 1, t.vocabulary = 1;
  EXPECT_NE(orrery_cuda_top_p(&t, nullptr), 0);
}

}  // namespace
}  // namespace orrery::testing
