// Our kernels against LibTorch's own operators on one device, at shapes of real models; prints a table for a report.
//   orrery_kernel_bench [--device cuda|cpu] [--small]
// --small takes tiny shapes: with --device cpu, a look at everything but the GPU. Both sides must agree before they are
// timed; exit code 1 if they do not, 77 where there is no such device.
#include <ATen/ATen.h>
#include <ATen/ops/rms_norm.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "ops/cached_conv3d.h"
#include "ops/frames.h"
#include "ops/fsq.h"
#include "ops/int8_attention.h"
#include "ops/modulated_norm.h"
#include "ops/paged_attention.h"
#include "ops/patch.h"
#include "ops/qk_norm_rope.h"
#include "ops/quantized_linear.h"
#include "ops/sampler_step.h"
#include "ops/top_p.h"

namespace orrery::testing {
namespace {

using Work = std::function<at::Tensor()>;
struct Row {
  const char* name;
  std::string shape;
  Work ours, theirs;
  double within = 0.02;  // relative L2 in which both agree; negative: they draw, and cannot
};

at::Tensor rotated(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {  // [B,N,heads,D], halves
  const int64_t half = x.size(-1) / 2;
  const at::Tensor a = x.narrow(-1, 0, half), b = x.narrow(-1, half, half), c = cos.unsqueeze(1), s = sin.unsqueeze(1);
  return at::cat({a * c - b * s, b * c + a * s}, -1).to(x.scalar_type());
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2);
}

std::vector<Row> rows(at::Device device, bool small) {
  const auto options = at::TensorOptions(device).dtype(at::kFloat);
  const auto floats = [=](at::IntArrayRef shape) { return at::randn(shape, options); };
  const auto halves = [=](at::IntArrayRef shape) { return at::randn(shape, options).to(at::kBFloat16); };
  const auto size = [=](int64_t real, int64_t tiny) { return small ? tiny : real; };
  std::vector<Row> all;
  for (const auto& [channels, frames, height, width] :
       {std::tuple<int64_t, int64_t, int64_t, int64_t>{96, 4, 480, 832}, {384, 1, 60, 104}}) {
    const int64_t c = size(channels, 16), h = size(height, 5), w = size(width, 7);
    const at::Tensor x = halves({1, frames, h, w, c}), past = halves({1, 2, h, w, c}), bias = floats({c}),
                     residual = halves({1, frames, h, w, c});
    const at::Tensor weight = halves({c, 3, 3, 3, c}) / std::sqrt(27.0 * static_cast<double>(c));
    const at::Tensor theirs = weight.permute({0, 4, 1, 2, 3});  // as LibTorch sees it, channels last in memory
    all.push_back({"cached_conv3d",
                   "Wan 2.1 decoder, " + std::to_string(c) + " channels, " + std::to_string(frames) + " frames of " +
                       std::to_string(h) + "x" + std::to_string(w),
                   [=] { return ops::cached_conv3d(x, past, weight, bias, residual, {}, {}); },
                   [=] {
                     const at::Tensor y = at::conv3d(at::cat({past, x}, 1).permute({0, 4, 1, 2, 3}), theirs,
                                                     bias.to(at::kBFloat16), 1, at::IntArrayRef{0, 1, 1});
                     return y.permute({0, 2, 3, 4, 1}) + residual;
                   }});
  }
  const int64_t tokens = size(32760, 6), heads = size(12, 2);
  {
    const int64_t d = size(1536, 24);
    const at::Tensor x = halves({tokens, d}), scale = floats({1, d}), shift = floats({1, d});
    all.push_back({"modulated_norm", std::to_string(tokens) + " tokens of " + std::to_string(d),
                   [=] {
                     return ops::modulated_norm(x, ops::NormKind::kLayer, 1e-6, {}, {}, {scale, {}}, {shift, {}});
                   },
                   [=] { return (at::layer_norm(x, {d}, {}, {}, 1e-6) * (1 + scale) + shift).to(at::kBFloat16); }});
  }
  {
    const int64_t d = size(5120, 24);
    const at::Tensor x = halves({tokens, d}), residual = halves({tokens, d}), gate = floats({1, d});
    all.push_back({"gated_residual", std::to_string(tokens) + " tokens of " + std::to_string(d),
                   [=] {
                     return ops::gated_residual(residual, x, {gate, {}});
                   },
                   [=] { return (residual + gate * x).to(at::kBFloat16); }});
  }
  {
    const at::Tensor joint = halves({1, tokens, 3, heads, 128}), x = joint.select(2, 0), weight = floats({heads, 128});
    const at::Tensor angles = floats({tokens, 64}), cos = angles.cos(), sin = angles.sin();
    all.push_back({"qk_norm_rope", "queries of " + std::to_string(tokens) + " tokens, " + std::to_string(heads) + " heads",
                   [=] { return ops::qk_norm_rope(x, weight, cos, sin, {.over_all_heads = true}); },
                   [=] {
                     return rotated(
                         at::rms_norm(x.flatten(2), {heads * 128}, weight.flatten().to(at::kBFloat16), 1e-6).view(x.sizes()),
                         cos, sin);
                   }});
  }
  {
    const at::Tensor sample = floats({1, 16, size(21, 3), size(60, 4), size(104, 5)}), output = sample.to(at::kBFloat16),
                     negative = output + 1;
    all.push_back({"sampler_step", "Wan 1.3B latents, guided",
                   [=] { return ops::sampler_step(sample, output, negative, {.of_output = -0.02f, .guidance = 5}); },
                   [=] { return sample - 0.02 * (negative + 5 * (output - negative)).to(at::kFloat); }});
  }
  {
    const int64_t page = size(1560, 8), pages = size(6, 3), now = size(4680, 5), seen = page * pages;
    const at::Tensor query = halves({1, now, heads, 128}), keys = halves({pages, page, heads, 128}),
                     values = halves({pages, page, heads, 128});
    const at::Tensor table = at::arange(pages, at::kInt).flip(0).contiguous().view({1, pages}).to(device);
    const at::Tensor angles = floats({seen, 64}), cos = angles.cos(), sin = angles.sin();
    all.push_back({"paged_attention", std::to_string(now) + " tokens see " + std::to_string(seen),
                   [=] {
                     return ops::paged_attention(query, {keys, values, table, 0, seen}, seen, cos, sin, false);
                   },
                   [=] {
                     const at::Tensor order = table[0].to(at::kLong);
                     const auto gathered = [&](const at::Tensor& pool) {
                       return pool.index_select(0, order).view({1, seen, heads, 128});
                     };
                     return attention(query, rotated(gathered(keys), cos, sin), gathered(values));
                   }});
  }
  {
    const at::Tensor q = halves({1, tokens, heads, 128}), k = halves({1, tokens, heads, 128}),
                     v = halves({1, tokens, heads, 128});
    all.push_back({"int8_attention", std::to_string(tokens) + " tokens, " + std::to_string(heads) + " heads",
                   [=] { return ops::int8_attention(q, k, v); }, [=] { return attention(q, k, v); }, 0.1});
  }
  {
    const int64_t in = size(4096, 48), out = size(14336, 9);
    const at::Tensor x = halves({1, in}), weight = at::randint(-127, 128, {out, in}, options).to(at::kChar),
                     scale = at::full({out}, 0.01, options);
    const at::Tensor wide = (weight.to(at::kFloat) * 0.01).to(at::kBFloat16);
    all.push_back({"quantized_linear",
                   "one token, " + std::to_string(in) + " to " + std::to_string(out) + ", int8 against bfloat16",
                   [=] { return ops::quantized_linear(x, weight, scale, {}); }, [=] { return at::linear(x, wide); }});
  }
  {
    const at::Tensor logits = floats({1, size(64000, 50)});
    all.push_back({"top_p", "one row of " + std::to_string(logits.size(1)) + " logits",
                   [=] { return ops::top_p(logits, 1, 0.8, {3}); },
                   [=] {
                     const auto [falling, ids] = logits.softmax(-1).sort(-1, true);
                     const at::Tensor kept = falling.masked_fill((falling.cumsum(-1) - falling).gt(0.8), 0);
                     return ids.gather(1, kept.multinomial(1));
                   },
                   -1});
  }
  {
    const at::Tensor z = floats({size(6 * 45 * 80, 10), 6}),
                     half_range = at::tensor({7, 7, 7, 4, 4, 4}, options) * 1.001 / 2,
                     offset = at::tensor({0.5, 0.5, 0.5, 0.0, 0.0, 0.0}, options),
                     half_width = at::tensor({4, 4, 4, 2, 2, 2}, options);
    const at::Tensor shift = (offset / half_range).atanh();
    all.push_back({"fsq", "Cosmos DV8x16x16, 1 s of 720p",
                   [=] {
                     return ops::fsq_quantize(z, {8, 8, 8, 5, 5, 5}).first;
                   },
                   [=] { return ((z + shift).tanh() * half_range - offset).round() / half_width; }});
  }
  {
    const int64_t t = size(16, 2), h = size(720, 6), w = size(1280, 8);
    const at::Tensor x = halves({1, 3, t, h, w}), rgb = at::randint(256, {t, h, w, 3}, options).to(at::kByte);
    all.push_back(
        {"patch", "2x2x2 of " + std::to_string(t) + " frames of " + std::to_string(h) + "x" + std::to_string(w),
         [=] {
           return ops::patch(x, {2, 2, false});
         },
         [=] {
           return x.view({1, 3, t / 2, 2, h / 2, 2, w / 2, 2}).permute({0, 3, 5, 7, 1, 2, 4, 6}).flatten(1, 4).contiguous();
         }});
    all.push_back({"frames",
                   std::to_string(t) + " frames of " + std::to_string(h) + "x" + std::to_string(w) + " RGB to bfloat16",
                   [=] { return ops::frames_from_rgb(rgb, h, w, at::kBFloat16); },
                   [=] {
                     return rgb.permute({0, 3, 1, 2}).to(at::kFloat).div_(127.5).sub_(1).to(at::kBFloat16).contiguous();
                   }});
  }
  return all;
}

double milliseconds(const Work& work, at::Device device, bool small) {
  using Clock = std::chrono::steady_clock;
  const auto wait = [&] {
    if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
  };
  const auto seconds = [&](int times) {
    const auto start = Clock::now();
    for (int i = 0; i < times; ++i) work();
    wait();
    return std::chrono::duration<double>(Clock::now() - start).count() / times;
  };
  seconds(3), wait();
  return 1000 * seconds(small ? 1 : std::max(3, static_cast<int>(0.3 / seconds(3))));
}

int run(at::Device device, bool small) {
  const c10::InferenceMode inference;
  at::manual_seed(1);
  int wrong = 0;
  std::printf("| kernel | shape | ours ms | LibTorch ms | LibTorch / ours | relative L2 |\n|---|---|---|---|---|---|\n");
  for (const Row& row : rows(device, small)) {
    const at::Tensor mine = row.ours().to(at::kDouble), other = row.theirs().to(at::kDouble);
    const double apart = row.within < 0 ? 0 : ((mine - other).norm() / other.norm()).item<double>();
    const bool good = row.within < 0 || apart <= row.within;
    wrong += !good;
    const double ours = milliseconds(row.ours, device, small), theirs = milliseconds(row.theirs, device, small);
    std::printf("| `%s` | %s | %.4f | %.4f | %.2f | %.1e%s |\n", row.name, row.shape.c_str(), ours, theirs, theirs / ours,
                apart, good ? "" : " WRONG");
    std::fflush(stdout);
  }
  return wrong > 0 ? 1 : 0;
}

}  // namespace
}  // namespace orrery::testing

int main(int count, char** arguments) {
  std::string device = "cuda:0";
  bool small = false;
  for (int i = 1; i < count; ++i) {
    small = small || std::strcmp(arguments[i], "--small") == 0;
    if (std::strcmp(arguments[i], "--device") == 0 && i + 1 < count) device = arguments[++i];
  }
  try {
    if (device != "cpu" && (!dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) || !at::hasCUDA())) {
      std::fprintf(stderr, "There is no %s here.\n", device.c_str());
      return 77;
    }
    return orrery::testing::run(at::Device(device == "cuda" ? "cuda:0" : device), small);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
