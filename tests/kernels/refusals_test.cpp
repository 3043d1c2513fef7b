// What every op refuses, and by which name: one table of ops and their operands, and one of what is wrong with an operand.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>
#include <string>

#include "kernels/machines.h"
#include "ops/cached_conv3d.h"
#include "ops/cuda_library.h"
#include "ops/dispatch.h"
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

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using Given = std::map<std::string, at::Tensor>;

struct OpCase {
  const char* op;
  Given good;  // on a GPU too
  std::function<void(Given)> call;
  std::set<std::string> optional = {}, any_stride = {}, aligned = {};
};
void PrintTo(const OpCase& op_case, std::ostream* out) { *out << op_case.op; }  // CTest names a test by it

at::Tensor half(at::IntArrayRef shape) {
  return at::randn(shape).to(at::kHalf);
}
at::Tensor bytes(at::IntArrayRef shape) {
  return at::full(shape, 7, at::kByte);
}

std::vector<OpCase> cases() {
  const at::Tensor x = at::randn({6, 8}), video = at::randn({1, 2, 3, 4, 6}), heads = half({2, 5, 3, 64});
  const at::Tensor pages = half({4, 8, 3, 64}), angles = at::randn({5, 4});
  return {
      {"modulated_norm",
       {{"x", x}, {"weight", x[0]}, {"bias", x[1]}, {"scale", x.narrow(0, 0, 2)}, {"shift", x.narrow(0, 2, 2)}},
       [](Given g) {
         ops::modulated_norm(g["x"], ops::NormKind::kRms, 1e-6, g["weight"], g["bias"], {g["scale"], {}}, {g["shift"], {}});
       },
       {"weight", "bias", "scale", "shift"}},
      {"gated_residual",
       {{"residual", x}, {"x", x + 1}, {"gate", x.narrow(0, 0, 3)}},
       [](Given g) {
         ops::gated_residual(g["residual"], g["x"], {g["gate"], {}});
       }},
      {"qk_norm_rope",
       {{"x", at::randn({2, 5, 3, 8})}, {"weight", x[0]}, {"cos", angles}, {"sin", angles.sin()}},
       [](Given g) { ops::qk_norm_rope(g["x"], g["weight"], g["cos"], g["sin"], {}); },
       {"weight"},
       {},
       {"x", "cos", "sin"}},
      {"cached_conv3d",
       {{"x", half({1, 2, 3, 5, 8})},
        {"cache", half({1, 2, 3, 5, 8})},
        {"weight", half({4, 3, 3, 3, 8})},
        {"bias", at::randn({4})},
        {"residual", half({1, 2, 3, 5, 4})},
        {"gamma", x[0]}},
       [](Given g) { ops::cached_conv3d(g["x"], g["cache"], g["weight"], g["bias"], g["residual"], g["gamma"], {}); },
       {"cache", "bias", "residual", "gamma"},
       {},
       {"x", "cache", "weight"}},
      {"paged_attention",
       {{"query", heads},
        {"keys", pages},
        {"values", pages + 1},
        {"table", at::tensor({0, 1, 2, 3}, at::kInt).view({2, 2})},
        {"cos", at::randn({9, 32})},
        {"sin", at::randn({9, 32})}},
       [](Given g) {
         ops::paged_attention(g["query"], {g["keys"], g["values"], g["table"], 1, 9}, 15, g["cos"], g["sin"], false);
       },
       {},
       {},
       {"query", "keys", "values"}},
      {"int8_attention",
       {{"query", heads}, {"key", heads + 1}, {"value", heads + 2}},
       [](Given g) { ops::int8_attention(g["query"], g["key"], g["value"]); },
       {},
       {},
       {"value"}},
      {"sampler_step",
       {{"sample", video}, {"output", half(video.sizes())}, {"negative", half(video.sizes())}},
       [](Given g) { ops::sampler_step(g["sample"], g["output"], g["negative"], {}); },
       {"negative"}},
      {"top_p", {{"logits", x}}, [](Given g) { ops::top_p(g["logits"], 1, 0.9, {}); }},
      {"quantized_linear",
       {{"x", x}, {"weight", at::ones({3, 8}, at::kChar)}, {"scale", at::ones({3})}, {"bias", at::ones({3})}},
       [](Given g) { ops::quantized_linear(g["x"], g["weight"], g["scale"], g["bias"]); },
       {"bias"}},
      {"fsq_quantize",
       {{"z", at::randn({4, 2})}},
       [](Given g) {
         ops::fsq_quantize(g["z"], {3, 4});
       },
       {},
       {"z"}},
      {"fsq_codes",
       {{"indices", at::ones({4}, at::kInt)}},
       [](Given g) {
         ops::fsq_codes(g["indices"], {3, 4});
       }},
      {"patch",
       {{"x", video}},
       [](Given g) {
         ops::patch(g["x"], {1, 2, true});
       }},
      {"unpatch",
       {{"x", at::randn({1, 4, 1, 2, 3})}},
       [](Given g) {
         ops::unpatch(g["x"], {1, 2, false});
       }},
      {"patch_into",
       {{"pixels", video}, {"patches", at::empty({1, 2, 2, 2, 2, 2, 2, 3})}},
       [](Given g) {
         ops::patch_into(g["pixels"], g["patches"], {2, 2, true, 1});
       },
       {},
       {"patches"}},
      {"unpatch_into",
       {{"patches", at::empty({1, 2, 2, 2, 2, 2, 2, 3})}, {"pixels", video.clone()}},
       [](Given g) {
         ops::unpatch_into(g["patches"], g["pixels"], {2, 2, false, 1});
       },
       {},
       {"patches"}},
      {"frames_from_rgb", {{"rgb", bytes({2, 4, 6, 3})}}, [](Given g) { ops::frames_from_rgb(g["rgb"], 5, 7, at::kHalf); }},
      {"frames_from_nv12",
       {{"luma", bytes({2, 4, 6})}, {"chroma", bytes({2, 2, 3, 2})}},
       [](Given g) { ops::frames_from_nv12(g["luma"], g["chroma"], ops::Colours::kBt601, 4, 6, at::kFloat); }},
      {"frames_to_rgb", {{"numbers", at::randn({2, 3, 4, 6})}}, [](Given g) { ops::frames_to_rgb(g["numbers"], 4, 6); }},
      {"frames_to_nv12",
       {{"numbers", at::randn({2, 3, 4, 6})}},
       [](Given g) { ops::frames_to_nv12(g["numbers"], ops::Colours::kBt709, 4, 6); }},
  };
}

// The same numbers, none of which has its neighbour beside it.
at::Tensor apart(const at::Tensor& x) {
  return at::stack({x, x}, -1).select(-1, 0);
}
// The same numbers, one element behind where the allocator begins.
at::Tensor shifted(const at::Tensor& x) {
  const at::Tensor room = at::empty({x.numel() + 1}, x.options());
  return room.narrow(0, 1, x.numel()).view(x.sizes()).copy_(x);
}

class RefusalsTest : public ::testing::TestWithParam<OpCase> {
 protected:
  // The error of a call in which one operand is another.
  std::string error_with(const std::string& name, const at::Tensor& bad) const {
    Given given = GetParam().good;
    given[name] = bad;
    return error_of([&] { GetParam().call(given); }, ErrorKind::kArgument);
  }
  std::string place(const std::string& name) const { return "argument: " + std::string(GetParam().op) + ": " + name + ": "; }
};

int answer = 0;
void* answering(const char*) {
  return reinterpret_cast<void*>(+[](const void*, void*) { return answer; });
}

TEST_P(RefusalsTest, NamesOpAndOperand) {
  const OpCase& c = GetParam();
  EXPECT_NO_THROW(c.call(c.good));
  for (const auto& [name, good] : c.good) {
    SCOPED_TRACE(name);
    EXPECT_THAT(error_with(name, good.to(at::kComplexFloat)), AllOf(StartsWith(place(name)), HasSubstr("dtype")));
    EXPECT_THAT(error_with(name, good.to(at::kMeta)), AllOf(StartsWith(place(name)), HasSubstr("device")));
    EXPECT_THAT(error_with(name, good.unsqueeze(0)), AllOf(StartsWith(place(name)), HasSubstr("shape")));
    if (!c.optional.contains(name)) {
      EXPECT_THAT(error_with(name, {}), StartsWith(name == "cos" ? place("sin") : place(name)));
    }
    if (!c.any_stride.contains(name)) {
      EXPECT_THAT(error_with(name, apart(good)), StartsWith(place(name) + "must "));
    }
  }
}

TEST_P(RefusalsTest, NamesWhatIsNotAlignedForTheGpu) {
  const OpCase& c = GetParam();
  const ops::ScopedKernels gpu(answering);
  answer = 0;
  for (const auto& [name, good] : c.good) {
    SCOPED_TRACE(name);
    if (c.aligned.contains(name))
      EXPECT_THAT(error_with(name, shifted(good)), StartsWith(place(name) + "is not aligned for the GPU"));
    else
      EXPECT_EQ(error_with(name, shifted(good)), "no error");
  }
}

TEST_P(RefusalsTest, ACudaErrorNamesTheKernelAndTheProcessLives) {
  const OpCase& c = GetParam();
  for (const auto& [error, remedy] : std::map<int, const char*>{{2, "--max-memory"},
                                                                {9, "fewer frames"},
                                                                {35, "driver"},
                                                                {209, "compute capability 8.0"},
                                                                {700, "CUDA_LAUNCH_BLOCKING=1"}}) {
    const ops::ScopedKernels gpu(answering);
    answer = error;
    EXPECT_THAT(error_of([&] { c.call(c.good); }, ErrorKind::kDevice),
                AllOf(StartsWith(std::string("device: ") + c.op + ": "), HasSubstr("the kernel orrery_cuda_"),
                      HasSubstr("CUDA error " + std::to_string(error)), HasSubstr(remedy)));
  }
  EXPECT_NO_THROW(c.call(c.good));
}

TEST(OldGpuTest, IsRefusedByItsCapability) {
  EXPECT_THAT(error_of([] { ops::require_capability(75, "cuda:1"); }, ErrorKind::kDevice),
              AllOf(HasSubstr("cuda:1: this GPU is too old"), HasSubstr("expected compute capability 8.0 or newer, got 7.5"),
                    HasSubstr("--device cpu")));
  EXPECT_NO_THROW(ops::require_capability(80, "cuda"));
  EXPECT_NO_THROW(ops::require_capability(0, "cuda"));  // nobody could say
}

INSTANTIATE_TEST_SUITE_P(Ops, RefusalsTest, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return std::string(info.param.op); });

}  // namespace
}  // namespace orrery::testing
