// The layers on a device that has our kernels: the same numbers as on the CPU, and it is the kernels that make them.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "layers/attention.h"
#include "layers/causal_conv3d.h"
#include "layers/linear.h"
#include "layers/norm.h"
#include "layers/rms_norm.h"
#include "layers/rotary.h"
#include "media/convert.h"
#include "models/cosmos_ar/kv_cache.h"
#include "orrery/autoencoder.h"
#include "orrery/denoiser.h"
#include "orrery/load.h"
#include "orrery/token_dynamics.h"
#include "orrery/weights.h"
#include "sampling/noise.h"
#include "sampling/solver.h"
#include "support/compare.h"
#include "support/errors.h"
#include "support/far_device.h"
#include "support/paths.h"

namespace orrery::layers {
namespace {

class DeviceKernels : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  DeviceKernels() { at::manual_seed(7), testing::take_far_launches(); }

  at::Tensor random(at::IntArrayRef shape) const { return at::randn(shape).to(GetParam()); }
  at::Tensor there(const at::Tensor& x) const { return x.to(testing::far_device()); }
  void expect(const at::Tensor& actual, const at::Tensor& expected, const char* symbol, int64_t times = 1) {
    EXPECT_EQ(actual.device(), testing::far_device());
    EXPECT_EQ(actual.scalar_type(), expected.scalar_type());
    const bool wide = expected.scalar_type() == at::kFloat;
    EXPECT_TRUE(testing::is_close(actual.cpu(), expected, wide ? testing::kSameMath : testing::kBFloat16Rounding)) << symbol;
    if (!std::getenv("ORRERY_FAR_DEVICE")) {
      EXPECT_EQ(testing::take_far_launches()[symbol], times) << symbol;
    }
  }
};

TEST_P(DeviceKernels, Norms) {
  for (const int64_t width : {1, 24, 130}) {
    const at::Tensor x = random({2, 3, width}), weight = random({width}), bias = random({width});
    expect(rms_norm(there(x), there(weight), 1e-5), rms_norm(x, weight, 1e-5), "orrery_cuda_modulated_norm");
    expect(rms_norm(there(x), {}, 1e-5), rms_norm(x, {}, 1e-5), "orrery_cuda_modulated_norm");
    if (width == 1) continue;  // then what is left is rounding
    expect(layer_norm(there(x), 1e-5, there(weight), there(bias)), layer_norm(x, 1e-5, weight, bias),
           "orrery_cuda_modulated_norm");
  }
}

// As the Wan decoders take them: on a device one pass over memory, SiLU and all; a pixel of zeros stays one.
TEST_P(DeviceKernels, NormsByLengthWithTheirSilu) {
  const at::Tensor gamma = random({24});
  at::Tensor x = random({2, 3, 5, 24});
  x[1][2][0].zero_();
  const at::Tensor near = l2_rms_norm(x.to(at::kFloat), gamma), near_silu = l2_rms_norm_silu(x.to(at::kFloat), gamma);
  expect(l2_rms_norm(there(x), there(gamma)), near.to(GetParam()), "orrery_cuda_modulated_norm");
  expect(l2_rms_norm_silu(there(x), there(gamma)), near_silu.to(GetParam()), "orrery_cuda_modulated_norm");
  at::Tensor used = there(x);
  expect(l2_rms_norm_silu_(used, there(gamma)), near_silu.to(GetParam()), "orrery_cuda_modulated_norm");
  EXPECT_TRUE(used.cpu().select(0, 1).select(0, 2).select(0, 0).eq(0).all().item<bool>());
}

TEST_P(DeviceKernels, ModulationAndGatesByGroup) {
  const at::Tensor x = random({2, 6, 24}), update = random({2, 6, 24});
  for (const int64_t groups : {1, 3, 6}) {
    const at::Tensor six = random({2, groups, 6 * 24});  // as a projection gives them: rows that lie apart
    const auto m = six.chunk(6, -1), far = there(six).chunk(6, -1);
    expect(modulated_norm(there(x), 1e-6, far[0], far[1]),
           modulated_norm(x.to(at::kFloat), 1e-6, m[0].to(at::kFloat), m[1].to(at::kFloat)).to(GetParam()),
           "orrery_cuda_modulated_norm");
    expect(gated_residual(there(x), there(update), far[2]),
           gated_residual(x.to(at::kFloat), update.to(at::kFloat, false, true), m[2].to(at::kFloat)).to(GetParam()),
           "orrery_cuda_gated_residual");
  }
}

TEST_P(DeviceKernels, HeadsAreNormedAndTurned) {
  const at::Tensor joint = random({2, 5, 3, 4, 8}), angles = at::randn({5, 4});  // queries, keys and values of 4 heads
  const Rotary rotary{angles.cos(), angles.sin()}, far = rotary.to(testing::far_device());
  for (const RotaryPairs pairs : {RotaryPairs::kHalves, RotaryPairs::kNeighbours}) {
    for (const at::Tensor& heads : {joint.select(2, 1), joint.select(2, 1).transpose(1, 2).contiguous().transpose(1, 2)}) {
      const at::Tensor x = heads.to(at::kFloat), each = random({8}), all = random({32});
      expect(rotate(there(joint).select(2, 1), far, pairs), rotate(x, rotary, pairs).to(GetParam()),
             "orrery_cuda_qk_norm_rope");
      expect(norm_and_rotate(there(heads), there(each), false, 1e-6, far, pairs),
             norm_and_rotate(x, each.to(at::kFloat), false, 1e-6, rotary, pairs).to(GetParam()), "orrery_cuda_qk_norm_rope");
      expect(norm_and_rotate(there(heads), there(all), true, 1e-6, far, pairs),
             norm_and_rotate(x, all.to(at::kFloat), true, 1e-6, rotary, pairs).to(GetParam()), "orrery_cuda_qk_norm_rope");
    }
  }
}

TEST_P(DeviceKernels, FewRowsByEightBits) {
  const at::Tensor weight = at::randn({20, 48}), bias = at::randn({20});
  const TensorMap plain = {{"weight", weight}, {"bias", bias}},
                  published = {
                      {"weight", weight.to(at::kFloat8_e4m3fn)}, {"bias", bias}, {"scale_weight", at::tensor({0.5F})}};
  for (const int64_t rows : {1, 7, 16})
    for (const auto& [given, form] :
         {std::pair{plain, WeightForm::kInt8}, {plain, WeightForm::kFloat8}, {published, WeightForm::kStored}}) {
      const at::Tensor x = random({rows, 48});
      const Linear near_linear(Weights::from(given, "near"), 48, 20, true, form);
      const Linear far_linear(Weights::from(given, "far").to(at::kFloat, testing::far_device()), 48, 20, true, form);
      expect(far_linear(there(x)), near_linear.widened()(x.to(at::kFloat)).to(GetParam()), "orrery_cuda_quantized_linear");
    }
}

TEST_P(DeviceKernels, AttentionInEightBits) {
  const at::Tensor q = random({2, 5, 3, 64}), k = random({2, 9, 3, 64}), v = random({2, 9, 3, 64});
  const auto wide = [](const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kFloat); };  // as it goes to the kernel
  const at::Tensor near = attention(wide(q), wide(k), wide(v), AttentionForm::kInt8),
                   far = attention(there(q), there(k), there(v), AttentionForm::kInt8);
  EXPECT_EQ(far.scalar_type(), GetParam());
  EXPECT_TRUE(testing::is_close(far.cpu().to(at::kFloat), near, testing::kBFloat16Rounding));
  if (!std::getenv("ORRERY_FAR_DEVICE")) {
    EXPECT_EQ(testing::take_far_launches()["orrery_cuda_int8_attention"], 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, DeviceKernels, ::testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return std::string(at::toString(info.param)); });

TEST(DeviceNoise, IsDrawnThereWithTheSameBits) {
  testing::take_far_launches();
  const at::Tensor near = sampling::latent_noise({2, 3, 4, 5, 7}, {11, 2, 3});
  const at::Tensor far = sampling::latent_noise({2, 3, 4, 5, 7}, {11, 2, 3}, testing::far_device());
  EXPECT_TRUE(at::equal(far.cpu(), near));
  if (!std::getenv("ORRERY_FAR_DEVICE")) {
    EXPECT_EQ(testing::take_far_launches()["orrery_cuda_sampler_step"], 1);
  }
}

TEST(DeviceSolver, EulerAndRenoisingAreOnePass) {
  testing::take_far_launches();
  sampling::Schedule schedule;
  schedule.rows = {{.sigma = 1.0, .next = 0.6, .mode = sampling::RowMode::kSolve},
                   {.sigma = 0.6, .next = 0.25, .mode = sampling::RowMode::kFreshNoise}};
  sampling::EulerSolver near(schedule, {5, 1, 0}), far(schedule, {5, 1, 0});
  at::Tensor x = at::randn({1, 4, 3, 2, 6}), y = x.to(testing::far_device());
  for (int64_t row = 0; row < 2; ++row) {
    const at::Tensor velocity = at::randn(x.sizes());
    x = near.step(row, x, velocity);
    y = far.step(row, y, velocity.to(testing::far_device()));
    EXPECT_TRUE(testing::is_close(y.cpu(), x, testing::kSameMath)) << row;
  }
  if (!std::getenv("ORRERY_FAR_DEVICE")) {
    EXPECT_EQ(testing::take_far_launches()["orrery_cuda_sampler_step"], 2);
  }
}

TEST(DeviceConvolution, ReadsPastAndClipInPlace) {
  testing::take_far_launches();
  for (const int64_t stride_t : {1, 2}) {
    const TensorMap given = {{"weight", at::randn({5, 16, 3, 3, 3}).to(at::kBFloat16)}, {"bias", at::randn({5})}};
    const Weights weights = Weights::from(given, "given");
    int64_t slots = 0, same_slots = 0;
    const CausalConv3dSizes sizes{.in = 16, .out = 5, .stride_t = stride_t};
    const CausalConv3d near(weights.to(at::kFloat), sizes, slots);
    const CausalConv3d far(weights.to(at::kBFloat16, testing::far_device()), sizes, same_slots);
    CodecCache near_cache, far_cache;
    near_cache.slots.resize(static_cast<size_t>(slots)), far_cache.slots.resize(static_cast<size_t>(slots));
    for (const int64_t frames : {2, 4, 2}) {  // a stream in three chunks
      const at::Tensor x = at::randn({2, frames, 3, 5, 16}).to(at::kBFloat16);
      const at::Tensor residual = at::randn({2, frames / stride_t, 3, 5, 5}).to(at::kBFloat16);
      const at::Tensor expected = near(x.to(at::kFloat), near_cache, residual.to(at::kFloat));
      const at::Tensor actual = far(x.to(testing::far_device()), far_cache, residual.to(testing::far_device()));
      EXPECT_EQ(actual.device(), testing::far_device());
      EXPECT_TRUE(testing::is_close(actual.cpu(), expected.to(at::kBFloat16), testing::kBFloat16Rounding)) << frames;
    }
  }
  if (!std::getenv("ORRERY_FAR_DEVICE")) {
    EXPECT_EQ(testing::take_far_launches()["orrery_cuda_cached_conv3d"], 6);
  }
}

TEST(DeviceConvolution, DoublesInTheAddresses) {
  testing::take_far_launches();
  const auto there = [](const at::Tensor& x) { return x.to(testing::far_device()); };
  const auto images = [](const at::Tensor& x) { return x.to(at::kFloat).flatten(0, 1).permute({0, 3, 1, 2}); };
  const at::Tensor x = at::randn({2, 3, 4, 5, 16}).to(at::kBFloat16), weight = at::randn({6, 16, 3, 3}).to(at::kBFloat16);
  const at::Tensor bias = at::randn({6});
  for (const bool doubled : {false, true}) {
    const int64_t times = doubled ? 2 : 1;
    const at::Tensor residual = at::randn({2, 3, 4 * times, 5 * times, 6}).to(at::kBFloat16);
    const at::Tensor seen = images(x).repeat_interleave(times, 2).repeat_interleave(times, 3);
    const at::Tensor expected = at::conv2d(seen, weight.to(at::kFloat), bias, 1, 1) + images(residual);
    const at::Tensor actual =
        spatial_conv_by_kernel(there(x), for_device(there(weight)), there(bias), doubled, there(residual));
    EXPECT_TRUE(
        testing::is_close(images(actual.cpu()), expected.to(at::kBFloat16).to(at::kFloat), testing::kBFloat16Rounding));
  }
  EXPECT_FALSE(spatial_conv_by_kernel(x, weight, bias, true).defined());  // nothing for the CPU
  if (!std::getenv("ORRERY_FAR_DEVICE")) {
    EXPECT_EQ(testing::take_far_launches()["orrery_cuda_cached_conv3d"], 2);
  }
}

TEST(DeviceTokens, TheSameAreDrawn) {
  testing::take_far_launches();
  at::manual_seed(3);
  const at::Tensor logits = at::randn({3, 70});
  for (const TokenSampling& sampling : {TokenSampling{.temperature = 0.7, .top_p = 0.8, .seed = 2}, {.top_k = 9, .seed = 3}})
    for (int64_t position = 0; position < 5; ++position)
      EXPECT_TRUE(sample_tokens(logits.to(testing::far_device()), sampling, position)
                      .cpu()
                      .equal(sample_tokens(logits, sampling, position)));
  if (!std::getenv("ORRERY_FAR_DEVICE")) {
    EXPECT_EQ(testing::take_far_launches()["orrery_cuda_top_p"], 10);
  }
}

// Tokens that come one at a time look at pages through one kernel; forks keep their own last page.
TEST(DeviceTokens, LookAtPagesOfTheirPast) {
  testing::take_far_launches();
  at::manual_seed(8);
  models::KvCache near, far;
  const auto both = [&](int64_t count) {
    const at::Tensor k = at::randn({2, count, 2, 64}).to(at::kBFloat16), v = at::randn(k.sizes()).to(at::kBFloat16);
    near.append(k.to(at::kFloat), v.to(at::kFloat));
    far.append(k.to(testing::far_device()), v.to(testing::far_device()));
  };
  const auto expect_equal = [&] {
    const at::Tensor q = at::randn({2, 1, 4, 64}).to(at::kBFloat16);
    EXPECT_TRUE(testing::is_close(far.attend(q.to(testing::far_device())).cpu(),
                                  near.attend(q.to(at::kFloat)).to(at::kBFloat16), testing::kBFloat16Rounding))
        << near.length();
  };
  both(models::KvCache::kPage - 2);
  for (int token = 0; token < 4; ++token) both(1), expect_equal();
  const models::KvCache before = far;
  both(1), expect_equal();
  EXPECT_EQ(before.length() + 1, far.length());
  if (!std::getenv("ORRERY_FAR_DEVICE")) {
    EXPECT_EQ(testing::take_far_launches()["orrery_cuda_paged_attention"], 5);
  }
}

// Frames cross as bytes, and are the same.
TEST(DeviceFrames, ComeAndGoAsBytes) {
  testing::take_far_launches();
  const Video video{at::randint(256, {3, 5, 7, 3}).to(at::kByte), 12};
  const at::Tensor far = to_input_on(video, testing::far_device());
  EXPECT_TRUE(far.is_contiguous());
  EXPECT_TRUE(far.cpu().equal(to_input(video)));
  // Between two bytes, beyond them, and on the halves.
  const at::Tensor sample =
      at::cat({at::randn({1, 3, 2, 5, 7}), (at::arange(210).view({1, 3, 2, 5, 7}) + 0.5) / 127.5 - 1}, 2);
  const Video there = to_video(sample.to(testing::far_device()), 12);
  EXPECT_TRUE(there.frames.is_cpu());
  EXPECT_TRUE(there.frames.equal(to_video(sample, 12).frames));
  const at::Tensor broken = sample.clone().fill_(std::nan(""));
  EXPECT_EQ(testing::error_of([&] { to_video(broken.to(testing::far_device()), 12); }),
            testing::error_of([&] { to_video(broken, 12); }));
  if (!std::getenv("ORRERY_FAR_DEVICE")) {
    EXPECT_EQ(testing::take_far_launches()["orrery_cuda_frames"], 2);
  }
}

struct Case {
  const char* name;
  const char* model;
  std::vector<const char*> kernels;  // that a look of this network starts
  const char* component = "transformer";
  const char* function = "forward";
};
void PrintTo(const Case& of, std::ostream* out) {
  *out << of.name;
}  // CTest names a test by it

class DeviceModels : public ::testing::TestWithParam<Case> {};

TEST_P(DeviceModels, RunThroughOurKernels) {
  if (std::getenv("ORRERY_FAR_DEVICE")) GTEST_SKIP() << "a GPU's launches are not counted";
  const auto folder = testing::golden_folder() / GetParam().name;
  LoadOptions options;
  options.device = testing::far_device();
  const auto component = load_component((folder / GetParam().model).string(), GetParam().component, options);
  TensorMap inputs = load_safetensors(folder / "in.safetensors");
  for (auto& [name, tensor] : inputs) tensor = tensor.to(testing::far_device());
  testing::take_far_launches();
  component->call(GetParam().function, inputs, {});  // whose numbers golden_cases_test.cpp compares
  const auto launches = testing::take_far_launches();
  for (const char* kernel : GetParam().kernels) EXPECT_TRUE(launches.contains(kernel)) << kernel;
}

// What a graph of a steady step needs: once a prompt is prepared, the host waits for nothing, and brings nothing.
TEST(DeviceLooks, GoOnWithoutTheHost) {
  if (std::getenv("ORRERY_FAR_DEVICE")) GTEST_SKIP() << "a GPU's waits are not counted";
  for (const char* name : {"transformer_wan_text2video", "transformer_wan22_5b", "transformer_predict2_text2image"}) {
    const auto folder = testing::golden_folder() / name;
    LoadOptions options;
    options.device = testing::far_device();
    const std::shared_ptr<const Component> component = load_component((folder / "model").string(), "transformer", options);
    const auto denoiser = std::dynamic_pointer_cast<const Denoiser>(component);
    const TensorMap given = load_safetensors(folder / "in.safetensors");
    const auto there = [&](const char* key) { return given.at(key).to(testing::far_device(), at::kFloat); };
    const Latents noisy{.video = there("hidden_states")};
    const auto context = denoiser->prepare({.text = there("encoder_hidden_states")}, noisy.video.sizes());
    const at::Tensor times = at::full({noisy.video.size(0), 1}, 0.5).to(testing::far_device());
    testing::take_far_streams();
    denoiser->forward(noisy, times, *context);
    EXPECT_EQ(testing::take_far_streams().host_waits, 0) << name;
  }
}

// So that what is decoded beside other work is only asked for, and the host goes on to that.
TEST(DeviceLooks, DecodersGoOnWithoutTheHost) {
  if (std::getenv("ORRERY_FAR_DEVICE")) GTEST_SKIP() << "a GPU's waits are not counted";
  for (const char* name : {"wan21_vae_encode", "wan22_vae_encode", "cosmos_cv8x8x8_encode"}) {
    const auto component =
        load_component((testing::golden_folder() / name / "model").string(), "vae", {.device = testing::far_device()});
    const auto& vae = dynamic_cast<const Autoencoder&>(*component);
    const at::Tensor latent = at::randn({1, vae.spec().latent_channels, 2, 3, 4}).to(testing::far_device());
    CodecCache cache;
    testing::take_far_streams();
    vae.decode_chunk(vae.normalization().undo(latent), cache, /*last=*/true);
    EXPECT_EQ(testing::take_far_streams().host_waits, 0) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Golden, DeviceModels,
    ::testing::Values(
        Case{"transformer_wan_text2video",
             "model",
             {"orrery_cuda_modulated_norm", "orrery_cuda_gated_residual", "orrery_cuda_qk_norm_rope"}},
        Case{"transformer_predict25",
             "model",
             {"orrery_cuda_modulated_norm", "orrery_cuda_gated_residual", "orrery_cuda_qk_norm_rope"}},
        Case{"transformer_oasis",
             "../worlds/oasis/model/transformer/model.safetensors",
             {"orrery_cuda_modulated_norm", "orrery_cuda_gated_residual", "orrery_cuda_qk_norm_rope"}},
        Case{"wan22_vae_encode", "model", {"orrery_cuda_patch", "orrery_cuda_modulated_norm"}, "vae", "encode"},
        Case{"wan22_vae_decode",
             "../wan22_vae_encode/model",
             {"orrery_cuda_patch", "orrery_cuda_modulated_norm"},
             "vae",
             "decode"},
        Case{"cv8x8x8_encode", "model", {"orrery_cuda_patch"}, "vae", "encode"},
        Case{"cv8x8x8_decode", "../cv8x8x8_encode/model", {"orrery_cuda_patch"}, "vae", "decode"},
        Case{"taew2_2_super_encode", "model/taew2_2_super.safetensors", {"orrery_cuda_patch"}, "vae", "encode"},
        Case{"taew2_2_super_decode",
             "../taew2_2_super_encode/model/taew2_2_super.safetensors",
             {"orrery_cuda_patch"},
             "vae",
             "decode"},
        Case{"dv4x8x8_encode", "model", {"orrery_cuda_patch", "orrery_cuda_fsq"}, "vae", "encode"},
        Case{"dv4x8x8_decode", "../dv4x8x8_encode/model", {"orrery_cuda_fsq"}, "vae", "decode"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace orrery::layers
