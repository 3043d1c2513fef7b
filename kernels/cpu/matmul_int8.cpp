#include "kernels/matmul_int8.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/isa.h"
#include "kernels/matmul.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul_int8.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include "kernels/cpu/pack-inl.h"
#include "kernels/cpu/round-inl.h"

// vpdpbusd: 512 bits wide (AVX512-VNNI) or 256 (AVX-VNNI, of processors that have no AVX-512). Highway 1.0 has no target with
// either alone, so the instruction is written by name and the processor asked.
#undef ORRERY_VNNI
#if !HWY_ARCH_X86_64 || HWY_COMPILER_MSVC
#define ORRERY_VNNI 0
#elif HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
#define ORRERY_VNNI 1
#else
#define ORRERY_VNNI 0
#endif

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels::HWY_NAMESPACE {
namespace {

using Floats = hn::CappedTag<float, 16>;
using Ints = hn::CappedTag<int32_t, 16>;

// A unit is four bytes of a row, packed as 32 bits. Blocks as in matmul.cpp.
constexpr int64_t kBytes = 4;
constexpr int64_t kUnitBlock = 512;
constexpr int64_t kColumnBlock = 240;
static_assert(kColumnBlock % kPanelColumns == 0);
// Units that packed weights are asked for ahead, units between two lines of inputs that are asked for (a divisor of every
// count of units), bytes of a line.
constexpr int64_t kAhead = 8, kUnits = 4, kLine = 64;

// Interleaving goes by four units.
int64_t UnitsOf(int64_t depth) {
  return (depth + 4 * kBytes - 1) / (4 * kBytes) * 4;
}

bool UsesVnni() {
#if ORRERY_VNNI && HWY_TARGET == HWY_AVX3
  static const bool vnni = __builtin_cpu_supports("avx512vnni");
  return vnni;
#elif ORRERY_VNNI
  static const bool vnni = __builtin_cpu_supports("avxvnni");
  return vnni && allows_avx_vnni();
#else
  return false;
#endif
}

// x86's older instruction, pmaddubsw, adds two products in 16 bits: of 7-bit inputs and 8-bit weights none overflows.
Rounding InputRounding() {
  return HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && !UsesVnni() ? Rounding{63, 64} : Rounding{127, 128};
}

#if HWY_TARGET != HWY_SCALAR
// The sums of four products of an unsigned and a signed byte.
#if HWY_ARCH_X86
HWY_INLINE __m128i DotFours(__m128i input, __m128i weight) {
  return _mm_madd_epi16(_mm_maddubs_epi16(input, weight), _mm_set1_epi16(1));
}
#if HWY_TARGET <= HWY_AVX2
HWY_INLINE __m256i DotFours(__m256i input, __m256i weight) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(input, weight), _mm256_set1_epi16(1));
}
#endif
#if HWY_TARGET <= HWY_AVX3
HWY_INLINE __m512i DotFours(__m512i input, __m512i weight) {
  return _mm512_madd_epi16(_mm512_maddubs_epi16(input, weight), _mm512_set1_epi16(1));
}
#endif
HWY_INLINE hn::Vec<Ints> Dot(hn::Vec<Ints> input, hn::Vec<Ints> weight) {
  return hn::Vec<Ints>{DotFours(input.raw, weight.raw)};
}
#else
HWY_INLINE hn::Vec<Ints> Dot(hn::Vec<Ints> input, hn::Vec<Ints> weight) {
  const hn::RebindToUnsigned<Ints> bits;
  const auto unsigned_byte = [&](auto v) { return hn::BitCast(Ints(), hn::ShiftRight<24>(hn::BitCast(bits, v))); };
  hn::Vec<Ints> sum = hn::Mul(unsigned_byte(input), hn::ShiftRight<24>(weight));
  for (int i = 1; i < kBytes; ++i) {
    input = hn::ShiftLeft<8>(input);
    weight = hn::ShiftLeft<8>(weight);
    sum = hn::Add(sum, hn::Mul(unsigned_byte(input), hn::ShiftRight<24>(weight)));
  }
  return sum;
}
#endif

// sum + the sums of four products.
template <bool kVnni>
HWY_INLINE hn::Vec<Ints> AddDot(hn::Vec<Ints> sum, hn::Vec<Ints> input, hn::Vec<Ints> weight) {
#if ORRERY_VNNI && HWY_TARGET == HWY_AVX3
  if constexpr (kVnni) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(input.raw), "v"(weight.raw));
    return sum;
  }
#elif ORRERY_VNNI
  if constexpr (kVnni) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum.raw) : "x"(input.raw), "x"(weight.raw));
    return sum;
  }
#endif
  return hn::Add(sum, Dot(input, weight));
}

// tile[row][column] = Σ inputs[unit][row] · weights[unit][column], of units of four bytes. A cache line behind `ahead` is
// asked for every kUnits units: inputs of the next tiles. Only with AVX-VNNI: other forms wait for their arithmetic.
template <bool kVnni>
HWY_NOINLINE void MultiplyUnits(const uint8_t* HWY_RESTRICT inputs, const uint8_t* HWY_RESTRICT weights, const uint8_t* ahead,
                                int64_t units, int32_t* HWY_RESTRICT tile) {
  const Ints d;
  const hn::Repartition<uint8_t, Ints> d8;
  hn::Vec<Ints> sum[kTileRows][kPanelRegisters];
#pragma GCC unroll 16
  for (int64_t row = 0; row < kTileRows; ++row)
#pragma GCC unroll 4
    for (int64_t i = 0; i < kPanelRegisters; ++i) sum[row][i] = hn::Zero(d);
  constexpr bool kAsksAhead = kVnni && !kManyRegisters;
  // Unrolled, the longer sequence of pmaddubsw would be summed in another order and run out of registers.
  constexpr int64_t kSteps = kAsksAhead ? kUnits : 1;
  for (int64_t unit = 0; unit < units; unit += kSteps) {
    if constexpr (kAsksAhead) hwy::Prefetch(ahead);
    ahead += kLine / kUnits * kSteps;
#pragma GCC unroll 8
    for (int64_t step = 0; step < kSteps; ++step) {
      hn::Vec<Ints> weight[kPanelRegisters];
#pragma GCC unroll 4
      for (int64_t i = 0; i < kPanelRegisters; ++i) weight[i] = hn::BitCast(d, hn::Load(d8, weights + i * 4 * kUnitLanes));
#pragma GCC unroll 4
      for (int64_t column = 0; kAsksAhead && column < 4 * kPanelColumns; column += kLine)
        hwy::Prefetch(weights + kAhead * 4 * kPanelColumns + column);
#pragma GCC unroll 16
      for (int64_t row = 0; row < kTileRows; ++row) {
        int32_t four;
        std::memcpy(&four, inputs + 4 * row, sizeof four);
        const auto input = hn::Set(d, four);
#pragma GCC unroll 4
        for (int64_t i = 0; i < kPanelRegisters; ++i) sum[row][i] = AddDot<kVnni>(sum[row][i], input, weight[i]);
      }
      inputs += 4 * kTileRows;
      weights += 4 * kPanelColumns;
    }
  }
#pragma GCC unroll 16
  for (int64_t row = 0; row < kTileRows; ++row)
#pragma GCC unroll 4
    for (int64_t i = 0; i < kPanelRegisters; ++i) hn::Store(sum[row][i], d, tile + row * kPanelColumns + i * kUnitLanes);
}
#else
template <bool>
void MultiplyUnits(const uint8_t* inputs, const uint8_t* weights, const uint8_t*, int64_t units, int32_t* tile) {
  std::fill_n(tile, kTileRows * kPanelColumns, 0);
  for (int64_t unit = 0; unit < units; ++unit)
    for (int64_t row = 0; row < kTileRows; ++row)
      for (int64_t column = 0; column < kPanelColumns; ++column)
        for (int64_t i = 0; i < kBytes; ++i)
          tile[row * kPanelColumns + column] += static_cast<int32_t>(inputs[(unit * kTileRows + row) * kBytes + i]) *
                                                static_cast<int8_t>(weights[(unit * kPanelColumns + column) * kBytes + i]);
}
#endif

void MultiplyTile(const uint8_t* inputs, const uint8_t* weights, const uint8_t* ahead, int64_t units, int32_t* tile) {
  if (ORRERY_VNNI && UsesVnni()) return MultiplyUnits<ORRERY_VNNI>(inputs, weights, ahead, units, tile);
  MultiplyUnits<false>(inputs, weights, ahead, units, tile);
}

// Units [start, start + count) of kUnitLanes rows of bytes [·, depth]; what lies behind `depth` is zeros.
void InterleaveUnits(const uint8_t* rows, int64_t row_stride, int64_t valid, int64_t depth, int64_t start, int64_t count,
                     uint32_t* to, int64_t stride) {
  const int64_t bytes = std::min(count * kBytes, depth - start * kBytes);
  Interleave(rows + start * kBytes, row_stride, valid, bytes, to, stride);
  for (int64_t unit = units_of<uint8_t>(bytes); unit < count; ++unit) std::fill_n(to + unit * stride, kUnitLanes, 0u);
}

// tile · scales added to the output, or put there with the bias.
void AddTile(const int32_t* HWY_RESTRICT tile, const MatmulInt8& matmul, int64_t row, int64_t rows, int64_t column,
             int64_t columns, const int32_t* HWY_RESTRICT excess, bool overwrite) {
  const Floats d;
  const Ints i32;
  const float* scales = matmul.weight_scales + column;
  const float* bias = matmul.bias ? matmul.bias + column : nullptr;
  for (int64_t r = 0; r < rows; ++r) {
    const int32_t* from = tile + r * kPanelColumns;
    float* HWY_RESTRICT out = matmul.output + (row + r) * matmul.output_stride + column;
    const float scale = matmul.input_scales[row + r];
    int64_t c = 0;
    for (; c + kUnitLanes <= columns; c += kUnitLanes) {
      const auto sum = hn::ConvertTo(d, hn::Sub(hn::Load(i32, from + c), hn::LoadU(i32, excess + c)));
      auto old = hn::Zero(d);
      if (!overwrite)
        old = hn::LoadU(d, out + c);
      else if (bias)
        old = hn::LoadU(d, bias + c);
      hn::StoreU(hn::MulAdd(sum, hn::Mul(hn::Set(d, scale), hn::LoadU(d, scales + c)), old), d, out + c);
    }
    for (; c < columns; ++c) {
      const float old = !overwrite ? out[c] : bias ? bias[c] : 0.0f;
      out[c] = old + static_cast<float>(from[c] - excess[c]) * (scale * scales[c]);
    }
  }
}

void MultiplyInt8(const MatmulInt8& matmul, int64_t first_column, int64_t last_column, uint8_t* scratch) {
  const int64_t all_units = UnitsOf(matmul.depth), depth = matmul.depth;
  const int32_t offset = InputRounding().offset;
  uint32_t* panels = reinterpret_cast<uint32_t*>(scratch);
  HWY_ALIGN int32_t tile[kTileRows * kPanelColumns];
  HWY_ALIGN int32_t excess[kColumnBlock];
  for (int64_t start = first_column; start < last_column; start += kColumnBlock) {
    const int64_t columns = std::min(kColumnBlock, last_column - start);
    for (int64_t first = 0; first < all_units; first += kUnitBlock) {
      const int64_t units = std::min(kUnitBlock, all_units - first);
      const int64_t padded = (columns + kPanelColumns - 1) / kPanelColumns * kPanelColumns;
      for (int64_t column = 0; column < padded; column += kUnitLanes)
        InterleaveUnits(reinterpret_cast<const uint8_t*>(matmul.weight) + (start + column) * depth, depth, columns - column,
                        depth, first, units,
                        panels + column / kPanelColumns * kPanelColumns * units + column % kPanelColumns, kPanelColumns);
      for (int64_t column = 0; column < columns; ++column) {
        const int8_t* row = matmul.weight + (start + column) * depth;
        int32_t sum = 0;
        for (int64_t k = first * kBytes; k < std::min(depth, (first + units) * kBytes); ++k) sum += row[k];
        excess[column] = offset * sum;
      }
      // A tile asks for so much of the next rows' panel, and so many tiles for all of it.
      const int64_t lines = units / kUnits * kLine;
      constexpr int64_t kTiles = (4 * kTileRows * kUnits + kLine - 1) / kLine;
      for (int64_t row = 0; row < matmul.rows; row += kTileRows) {
        const uint8_t* inputs = matmul.inputs + 4 * (row * all_units + first * kTileRows);
        const uint8_t* next = inputs + 4 * kTileRows * all_units;
        for (int64_t column = 0; column < columns; column += kPanelColumns) {
          MultiplyTile(inputs, reinterpret_cast<const uint8_t*>(panels + column * units),
                       next + column / kPanelColumns % kTiles * lines, units, tile);
          AddTile(tile, matmul, row, std::min(kTileRows, matmul.rows - row), start + column,
                  std::min(kPanelColumns, columns - column), excess + column, first == 0);
        }
      }
    }
  }
}

void PackInt8Inputs(const float* inputs, int64_t rows, int64_t depth, int64_t first_panel, int64_t last_panel,
                    uint8_t* packed, float* scales, uint8_t* scratch) {
  const int64_t units = UnitsOf(depth);
  HWY_ALIGN uint32_t block[kInterleaved * kUnitLanes];
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    const int64_t first = panel * kTileRows, valid = std::min(kTileRows, rows - first);
    for (int64_t row = 0; row < valid; ++row)
      scales[first + row] = RoundRow(inputs + (first + row) * depth, depth, InputRounding(), scratch + row * depth);
    uint8_t* to = packed + 4 * first * units;
    for (int64_t unit = 0; unit < units; unit += kInterleaved) {
      const int64_t count = std::min(kInterleaved, units - unit);
      for (int64_t part = 0; part < kTileRows; part += kUnitLanes) {
        const int64_t lanes = std::min(kUnitLanes, kTileRows - part);
        InterleaveUnits(scratch + part * depth, depth, valid - part, depth, unit, count, block, kUnitLanes);
        for (int64_t i = 0; i < count; ++i)
          std::memcpy(to + 4 * ((unit + i) * kTileRows + part), block + i * kUnitLanes, static_cast<size_t>(4 * lanes));
      }
    }
  }
}

int64_t InputLevels() {
  return InputRounding().levels;
}

int64_t PackedBytes(int64_t rows, int64_t depth) {
  return (rows + kTileRows - 1) / kTileRows * kTileRows * UnitsOf(depth) * 4;
}

}  // namespace
}  // namespace orrery::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace orrery::kernels {

HWY_EXPORT(InputLevels);
HWY_EXPORT(PackedBytes);
HWY_EXPORT(MultiplyInt8);
HWY_EXPORT(PackInt8Inputs);

int64_t matmul_int8_levels() {
  return HWY_DYNAMIC_DISPATCH(InputLevels)();
}

int64_t packed_int8_bytes(int64_t rows, int64_t depth) {
  return HWY_DYNAMIC_DISPATCH(PackedBytes)(rows, depth);
}

int64_t matmul_int8_scratch_bytes(int64_t depth) {
  constexpr int64_t kWeights = 4 * 256 * 512;  // kColumnBlock columns of kUnitBlock units
  return std::max(kWeights, matmul_panel_rows() * depth) + 64;
}

void pack_int8_inputs(const float* inputs, int64_t rows, int64_t depth, int64_t first_panel, int64_t last_panel,
                      uint8_t* packed, float* scales, uint8_t* scratch) {
  HWY_DYNAMIC_DISPATCH(PackInt8Inputs)(inputs, rows, depth, first_panel, last_panel, packed, scales, scratch);
}

void multiply(const MatmulInt8& matmul, int64_t first_column, int64_t last_column, uint8_t* scratch) {
  HWY_DYNAMIC_DISPATCH(MultiplyInt8)(matmul, first_column, last_column, scratch);
}

}  // namespace orrery::kernels
#endif
