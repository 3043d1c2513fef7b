#include "ops/fsq.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/machines.h"

namespace orrery::testing {
namespace {

using ::testing::HasSubstr;

const std::vector<int64_t> kLevels[] = {{8, 8, 8, 5, 5, 5}, {7}, {2, 3}, {4, 4, 4, 4, 4, 4, 4, 4}};

TEST(FsqTest, QuantizesAsTheFormula) {
  at::manual_seed(7);
  for (const auto& levels : kLevels) {
    for (const int64_t rows : {0, 1, 301}) {
      const auto dims = static_cast<int64_t>(levels.size());
      const at::Tensor z = (at::randn({dims, rows}) * 2).t();  // a plane for each number, as an encoder leaves them
      const at::Tensor level = at::tensor(levels).to(at::kDouble), half = (level / 2).floor();
      const at::Tensor range = (level - 1) * 1.001 / 2, offset = at::where(level.remainder(2) == 0, 0.5, 0.0);
      const at::Tensor codes = ((z.to(at::kDouble) + (offset / range).atanh()).tanh() * range - offset).round() / half;
      const at::Tensor basis = at::cat({at::ones({1}, at::kDouble), level.cumprod(0).narrow(0, 0, dims - 1)});
      const at::Tensor indices = ((codes * half + half) * basis).sum(-1).to(at::kInt);
      for (const Machine& machine : machines()) {
        at::Tensor found;
        EXPECT_TRUE(is_close(machine.run([&](const Bring& on) {
          const auto [c, i] = ops::fsq_quantize(on(z), levels);
          found = i.to(at::kCPU);
          return c;
        }),
                             codes, kSameMath))
            << machine.name;
        EXPECT_TRUE(is_close(found, indices, kExact)) << machine.name;
        EXPECT_TRUE(machine.run([&](const Bring& on) { return ops::fsq_codes(on(found), levels); })
                        .equal(ops::fsq_quantize(z, levels).first))
            << machine.name;
      }
    }
  }
}

TEST(FsqTest, RefusesByName) {
  EXPECT_THAT(error_of([&] {
                return ops::fsq_codes(at::tensor({12}).to(at::kInt), {3, 4});
              }),
              HasSubstr("indices: are not all in the vocabulary; expected 0 to 11, got 12"));
  EXPECT_THAT(error_of([&] {
                return ops::fsq_quantize(at::randn({3, 3}), {3, 4}).first;
              }),
              HasSubstr("z: has the wrong shape; expected [-1, 2]"));
  EXPECT_THAT(error_of([&] {
                return ops::fsq_quantize(at::randn({3, 1}), {1}).first;
              }),
              HasSubstr("levels: must each be at least 2"));
}

}  // namespace
}  // namespace orrery::testing
