#include "ops/tile_matmul.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <ostream>
#include <vector>

#include "kernels/isa.h"
#include "kernels/matmul.h"
#include "kernels/matmul_int8.h"
#include "ops/matmul.h"
#include "support/compare.h"

namespace orrery::kernels {
void PrintTo(TileMachine machine, std::ostream* out) {
  *out << (machine == TileMachine::kEmulated ? "emulation" : "processor");
}
}  // namespace orrery::kernels

namespace orrery::ops {
namespace {

using kernels::TileForm;
using kernels::TileMachine;

struct Shape {
  int64_t rows, depth, columns;
};
std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << s.rows << " x " << s.depth << " x " << s.columns;
}

// Odd in every way: less than a tile, a step and a half, more than a block of rows, of depth or of columns.
const Shape kShapes[] = {{9, 1, 1},      {13, 7, 33},    {37, 65, 71},  {50, 515, 17},
                         {26, 130, 273}, {33, 1100, 40}, {1030, 33, 5}, {9, 5, 1100}};

// Once by the emulation, which runs anywhere, and once by the processor where it has tiles.
class TileMatmulTest : public ::testing::TestWithParam<TileMachine> {
 protected:
  void SetUp() override {
    if (GetParam() == TileMachine::kProcessor && !kernels::has_tiles()) GTEST_SKIP() << "no matrix tiles here";
    at::manual_seed(0);
  }
  at::Tensor tiles(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& scales = {},
                   const at::Tensor& bias = {}) {
    return tile_matmul(input, weight, scales, bias, GetParam());
  }
};
INSTANTIATE_TEST_SUITE_P(By, TileMatmulTest, ::testing::Values(TileMachine::kEmulated, TileMachine::kProcessor),
                         [](const auto& info) { return info.param == TileMachine::kEmulated ? "Emulation" : "Processor"; });

at::Tensor in_double(const at::Tensor& input, const at::Tensor& weight) {
  return at::matmul(input.to(at::kDouble), weight.to(at::kDouble).t());
}

TEST_P(TileMatmulTest, EqualsTheDoublePrecisionProduct) {
  for (const auto dtype : {at::kBFloat16, at::kFloat, at::kFloat8_e4m3fn})
    for (const Shape& shape : kShapes) {
      const at::Tensor input = at::randn({shape.rows, shape.depth}), bias = at::randn({shape.columns});
      const at::Tensor weight = at::randn({shape.columns, shape.depth}).to(dtype), scales = at::rand({shape.columns}) + 0.1;
      const at::Tensor expected = in_double(input, weight);
      EXPECT_TRUE(testing::is_close(tiles(input, weight, {}, bias).to(at::kDouble), expected + bias, testing::kSameMath))
          << shape;
      EXPECT_TRUE(testing::is_close(tiles(input, weight, scales).to(at::kDouble), expected * scales, testing::kSameMath))
          << shape;
    }
}

// Not a tolerance: what LibTorch's float32 loses itself.
TEST_P(TileMatmulTest, LosesNoMoreThanFloat32) {
  for (const auto dtype : {at::kBFloat16, at::kFloat}) {
    const at::Tensor input = at::randn({40, 1000}), weight = at::randn({50, 1000}).to(dtype);
    const at::Tensor expected = in_double(input, weight), float32 = at::matmul(input, weight.to(at::kFloat).t());
    EXPECT_LE(testing::relative_l2(tiles(input, weight).to(at::kDouble), expected),
              2 * testing::relative_l2(float32.to(at::kDouble), expected));
  }
}

TEST_P(TileMatmulTest, EveryDigitOfAnInputArrives) {
  const at::Tensor input = at::randn({64, 64}) * at::exp2(at::randint(-90, 120, {64, 64}).to(at::kFloat));
  for (const auto dtype : {at::kBFloat16, at::kFloat, at::kFloat8_e4m3fn})
    EXPECT_TRUE(tiles(input, at::eye(64).to(dtype)).equal(input)) << dtype;
  const at::Tensor weight = at::randn({64, 64}) * at::exp2(at::randint(-90, 120, {64, 64}).to(at::kFloat));
  EXPECT_TRUE(tiles(at::eye(64), weight).t().equal(weight));
}

TEST_P(TileMatmulTest, TheLargestNumbersStayFiniteAndTheSmallestBecomeZeros) {
  const float most = std::numeric_limits<float>::max(), least = std::numeric_limits<float>::denorm_min();
  for (const auto dtype : {at::kBFloat16, at::kFloat}) {
    EXPECT_TRUE(tiles(at::eye(32) * most, at::eye(32).to(dtype)).equal(at::eye(32) * most));
    EXPECT_TRUE(tiles(at::full({9, 32}, least), at::ones({3, 32}).to(dtype)).equal(at::zeros({9, 3})));
  }
}

TEST_P(TileMatmulTest, InfiniteAndNaNInputsGiveWhatTheyGiveInFloat32OrNaN) {
  const float infinity = std::numeric_limits<float>::infinity();
  at::Tensor input = at::randn({40, 70});
  input[3][5] = infinity;
  input[4][69] = -infinity;
  input[5][0] = std::nan("");
  input[6][1] = infinity;
  input[6][2] = -infinity;
  // A NaN whose upper half looks like infinity.
  const uint32_t bits = 0x7F800001;
  std::memcpy(input.mutable_data_ptr<float>() + 35 * 70 + 7, &bits, sizeof bits);
  for (const auto dtype : {at::kBFloat16, at::kFloat}) {
    at::Tensor weight = at::randn({20, 70});
    weight[2][5] = 0;
    weight = weight.to(dtype);
    const at::Tensor expected = at::matmul(input, weight.to(at::kFloat).t()), output = tiles(input, weight);
    EXPECT_TRUE(output.isfinite().equal(expected.isfinite()));
    if (dtype == at::kFloat) continue;  // a float32 weight's parts differ in sign, and infinity times them is NaN
    EXPECT_TRUE(output.isnan().equal(expected.isnan()));
    EXPECT_TRUE(output.isposinf().equal(expected.isposinf()));
    EXPECT_TRUE(output.isneginf().equal(expected.isneginf()));
    EXPECT_TRUE(testing::is_close(at::nan_to_num(output, 0, 0, 0), at::nan_to_num(expected, 0, 0, 0), testing::kSameMath));
  }
}

TEST_P(TileMatmulTest, AnInfiniteWeightMakesItsOwnOutputNaN) {
  const at::Tensor input = at::ones({40, 70});
  for (const auto dtype : {at::kBFloat16, at::kFloat}) {
    at::Tensor weight = at::ones({20, 70});
    weight[2][5] = std::numeric_limits<float>::infinity();
    const at::Tensor output = tiles(input, weight.to(dtype));
    EXPECT_TRUE(output.select(1, 2).isnan().all().item<bool>());
    EXPECT_EQ(output.isfinite().sum().item<int64_t>(), 40 * 19);
  }
}

TEST_P(TileMatmulTest, EveryFloat8IsWidenedAsLibTorchDoes) {
  const at::Tensor bits = at::arange(256).to(at::kByte).view({1, 256}), wide = bits.view(at::kFloat8_e4m3fn).to(at::kFloat);
  EXPECT_TRUE(tiles(at::eye(256), bits.view(at::kFloat8_e4m3fn)).isnan().all().item<bool>()) << "NaN times zero";
  const at::Tensor numbers = bits.masked_fill(wide.isnan(), 0).view(at::kFloat8_e4m3fn);
  EXPECT_TRUE(tiles(at::eye(256), numbers).t().equal(wide.nan_to_num(0)));
}

// The product by the instructions of vectors, whose sums are whole numbers as well.
at::Tensor by_vectors(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& bias) {
  const int64_t rows = input.size(0), depth = input.size(1), columns = weight.size(0);
  const int64_t panel = kernels::matmul_panel_rows();
  at::Tensor packed = at::empty({kernels::packed_int8_bytes(rows, depth)}, at::kByte), row_scales = at::empty({rows}),
             scratch = at::empty({kernels::matmul_int8_scratch_bytes(depth)}, at::kByte),
             output = at::empty({rows, columns});
  kernels::pack_int8_inputs(input.const_data_ptr<float>(), rows, depth, 0, (rows + panel - 1) / panel,
                            packed.mutable_data_ptr<uint8_t>(), row_scales.mutable_data_ptr<float>(),
                            scratch.mutable_data_ptr<uint8_t>());
  kernels::multiply(kernels::MatmulInt8{packed.const_data_ptr<uint8_t>(), row_scales.const_data_ptr<float>(), rows, depth,
                                        weight.const_data_ptr<int8_t>(), scales.const_data_ptr<float>(),
                                        bias.const_data_ptr<float>(), output.mutable_data_ptr<float>(), columns},
                    0, columns, scratch.mutable_data_ptr<uint8_t>());
  return output;
}

TEST_P(TileMatmulTest, InEightBitsIsTheSameBitForBit) {
  if (int8_input_levels() != 127) GTEST_SKIP() << "vectors round inputs to 7 bits here";
  for (const Shape& shape : {kShapes[0], kShapes[1], kShapes[2], kShapes[4], kShapes[6], kShapes[7], Shape{31, 2100, 40}}) {
    at::Tensor input = at::randn({shape.rows, shape.depth}) * at::rand({shape.rows, 1}) * 10;
    input[1].zero_();
    input[2][0] = std::nan("");
    const at::Tensor weight = at::randint(-128, 128, {shape.columns, shape.depth}).to(at::kChar);
    const at::Tensor scales = at::rand({shape.columns}), bias = at::randn({shape.columns});
    const at::Tensor expected = by_vectors(input, weight, scales, bias), output = tiles(input, weight, scales, bias);
    EXPECT_TRUE(output.isnan().equal(expected.isnan())) << shape;
    EXPECT_TRUE(output.nan_to_num(0).equal(expected.nan_to_num(0))) << shape;
  }
}

// Tensors whose last byte is followed by a page that must not be touched.
class Guarded {
 public:
  explicit Guarded(const at::Tensor& source) {
    const auto page = static_cast<size_t>(getpagesize()), bytes = source.nbytes();
    size_ = (bytes + page - 1) / page * page + page;
    base_ = static_cast<char*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + size_ - page, page, PROT_NONE);
    tensor = at::from_blob(base_ + size_ - page - bytes, source.sizes(), source.options());
    tensor.copy_(source);
  }
  ~Guarded() { munmap(base_, size_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  at::Tensor tensor;

 private:
  char* base_;
  size_t size_;
};

TEST_P(TileMatmulTest, ReadsNothingBehindItsOperands) {
  for (const auto dtype : {at::kBFloat16, at::kFloat, at::kFloat8_e4m3fn, at::kChar})
    for (const Shape& shape : {kShapes[0], kShapes[1], kShapes[2], kShapes[4]}) {
      const Guarded input(at::randn({shape.rows, shape.depth})), scales(at::rand({shape.columns})), bias(scales.tensor);
      const Guarded weight((at::randn({shape.columns, shape.depth}) * 9).to(dtype));
      EXPECT_TRUE(tiles(input.tensor, weight.tensor, scales.tensor, bias.tensor).isfinite().all().item<bool>()) << shape;
    }
}

TEST(Tiles, TheProcessorDoesWhatTheEmulationDoesBitForBit) {
  if (!kernels::has_tiles()) GTEST_SKIP() << "no matrix tiles here";
  at::manual_seed(1);
  const kernels::TileSession session(TileMachine::kProcessor);
  // Of the inputs and the weights: 2^exponent. Half of the inputs at 2^-126 are below the least normal number, and of two at
  // 2^-63 many products are.
  struct Numbers {
    float inputs, weights;
    bool any_bits;
  };
  for (const TileForm form : {TileForm::kInt8, TileForm::kBFloat16, TileForm::kFloat32})
    for (const auto& [of_inputs, of_weights, any_bits] :
         {Numbers{0, 0, false}, Numbers{-126, 60, false}, Numbers{60, -126, false}, Numbers{-63, -63, false},
          Numbers{0, 0, true}}) {
      constexpr int64_t kSteps = 5;
      const auto operand = [&, any = any_bits](int64_t parts, float exponent) {
        const int64_t bytes = kSteps * parts * kernels::kStepBytes;
        if (any) return at::randint(256, {bytes}).to(at::kByte);
        return (at::randn({bytes / 2}) * std::exp2(exponent)).to(at::kBFloat16).view(at::kByte);
      };
      const at::Tensor inputs = operand(kernels::input_parts(form), of_inputs);
      const at::Tensor weights = operand(kernels::weight_parts(form), of_weights);
      const auto sums = [&](TileMachine machine) {
        at::Tensor to = at::empty({kernels::kSumSide, kernels::kSumSide}, form == TileForm::kInt8 ? at::kInt : at::kFloat);
        kernels::multiply_tiles({form, inputs.const_data_ptr<uint8_t>(), weights.const_data_ptr<uint8_t>(), kSteps,
                                 to.mutable_data_ptr(), nullptr, 0},
                                machine);
        return to;
      };
      at::Tensor processor = sums(TileMachine::kProcessor), emulated = sums(TileMachine::kEmulated);
      EXPECT_TRUE(processor.isnan().equal(emulated.isnan()));
      processor = processor.masked_fill(processor.isnan(), 0);
      emulated = emulated.masked_fill(emulated.isnan(), 0);
      EXPECT_TRUE(processor.view(at::kInt).equal(emulated.view(at::kInt)))
          << static_cast<int>(form) << " at 2^" << of_inputs << any_bits;
    }
}

TEST(Tiles, WholeProductsAreTheSameBitForBit) {
  if (!kernels::has_tiles()) GTEST_SKIP() << "no matrix tiles here";
  at::manual_seed(2);
  for (const auto dtype : {at::kBFloat16, at::kFloat, at::kFloat8_e4m3fn, at::kChar})
    for (const Shape& shape : {kShapes[2], kShapes[4], kShapes[5]}) {
      const at::Tensor input = at::randn({shape.rows, shape.depth}), scales = at::rand({shape.columns});
      const at::Tensor weight = (at::randn({shape.columns, shape.depth}) * 9).to(dtype);
      const at::Tensor processor = tile_matmul(input, weight, scales, {});
      EXPECT_TRUE(processor.equal(tile_matmul(input, weight, scales, {}, TileMachine::kEmulated))) << shape;
    }
}

TEST(Tiles, AreWhatMatmulUsesUnlessForbidden) {
  if (std::getenv("ORRERY_MAX_CPU_ISA")) {
    EXPECT_FALSE(uses_tiles());
    return;
  }
  if (!kernels::has_tiles()) GTEST_SKIP() << "no matrix tiles here";
  const at::Tensor input = at::randn({9, 33}), weight = at::randn({7, 33}).to(at::kBFloat16);
  EXPECT_TRUE(uses_tiles());
  EXPECT_TRUE(ops::matmul(input, weight).equal(tile_matmul(input, weight, {}, {})));
}

}  // namespace
}  // namespace orrery::ops
