#include "kernels/matmul_int8.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/matmul.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul_int8.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include "kernels/cpu/pack-inl.h"

// Highway 1.0 has no target of AVX-512 with VNNI alone, so the one function that needs it names it itself.
#undef ORRERY_QUADS
#if HWY_ARCH_X86 && HWY_TARGET == HWY_AVX3 && !HWY_COMPILER_MSVC
#define ORRERY_QUADS 1
#else
#define ORRERY_QUADS 0
#endif

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels::HWY_NAMESPACE {
namespace {

using Floats = hn::CappedTag<float, 16>;
using Ints = hn::CappedTag<int32_t, 16>;

// A unit is 32 bits of a row: four bytes or two 16-bit numbers. Blocks as in matmul.cpp.
constexpr int64_t kUnitBlock = 512;
constexpr int64_t kColumnBlock = 256;
constexpr int32_t kOffset = 128;  // what is added to inputs in quads, since the instruction takes the one side unsigned

bool UsesQuads() {
#if ORRERY_QUADS
  static const bool vnni = __builtin_cpu_supports("avx512vnni");
  return vnni;
#else
  return false;
#endif
}

int64_t PerUnit() {
  return UsesQuads() ? 4 : 2;
}
// Interleaving goes by four units.
int64_t UnitsOf(int64_t depth) {
  return (depth + 4 * PerUnit() - 1) / (4 * PerUnit()) * 4;
}

#if ORRERY_QUADS
__attribute__((target("avx512vnni"))) HWY_NOINLINE void MultiplyQuads(const uint8_t* HWY_RESTRICT inputs,
                                                                      const uint8_t* HWY_RESTRICT weights, int64_t units,
                                                                      int32_t* HWY_RESTRICT tile) {
  __m512i sum[kTileRows][2];
#pragma GCC unroll 16
  for (int64_t row = 0; row < kTileRows; ++row) sum[row][0] = sum[row][1] = _mm512_setzero_si512();
  for (int64_t unit = 0; unit < units; ++unit) {
    const __m512i left = _mm512_load_si512(weights), right = _mm512_load_si512(weights + 64);
#pragma GCC unroll 16
    for (int64_t row = 0; row < kTileRows; ++row) {
      int32_t four;
      std::memcpy(&four, inputs + 4 * row, sizeof four);
      const __m512i input = _mm512_set1_epi32(four);
      sum[row][0] = _mm512_dpbusd_epi32(sum[row][0], input, left);
      sum[row][1] = _mm512_dpbusd_epi32(sum[row][1], input, right);
    }
    inputs += 4 * kTileRows;
    weights += 4 * kPanelColumns;
  }
#pragma GCC unroll 16
  for (int64_t row = 0; row < kTileRows; ++row) {
    _mm512_store_si512(tile + row * kPanelColumns, sum[row][0]);
    _mm512_store_si512(tile + row * kPanelColumns + kUnitLanes, sum[row][1]);
  }
}
#endif

#if HWY_TARGET == HWY_SCALAR
void MultiplyPairs(const uint8_t* inputs, const uint8_t* weights, int64_t units, int32_t* tile) {
  std::fill_n(tile, kTileRows * kPanelColumns, 0);
  const auto at = [](const uint8_t* from, int64_t index) {
    int16_t value;
    std::memcpy(&value, from + 2 * index, sizeof value);
    return static_cast<int32_t>(value);
  };
  for (int64_t unit = 0; unit < units; ++unit)
    for (int64_t row = 0; row < kTileRows; ++row)
      for (int64_t column = 0; column < kPanelColumns; ++column)
        for (int64_t i = 0; i < 2; ++i)
          tile[row * kPanelColumns + column] +=
              at(inputs, (unit * kTileRows + row) * 2 + i) * at(weights, (unit * kPanelColumns + column) * 2 + i);
}
#else
HWY_NOINLINE void MultiplyPairs(const uint8_t* HWY_RESTRICT inputs, const uint8_t* HWY_RESTRICT weights, int64_t units,
                                int32_t* HWY_RESTRICT tile) {
  const Ints d;
  const hn::Repartition<int16_t, Ints> d16;
  const hn::Repartition<uint8_t, Ints> d8;
  hn::Vec<Ints> sum[kTileRows][2];
#pragma GCC unroll 16
  for (int64_t row = 0; row < kTileRows; ++row) sum[row][0] = sum[row][1] = hn::Zero(d);
  // On x86 a pair's two products are summed in its own lane and nothing is left over for a second sum.
  hn::Vec<Ints> rest = hn::Zero(d);
  for (int64_t unit = 0; unit < units; ++unit) {
    const auto left = hn::BitCast(d16, hn::Load(d8, weights)),
               right = hn::BitCast(d16, hn::Load(d8, weights + 4 * kUnitLanes));
#pragma GCC unroll 16
    for (int64_t row = 0; row < kTileRows; ++row) {
      int32_t two;
      std::memcpy(&two, inputs + 4 * row, sizeof two);
      const auto input = hn::BitCast(d16, hn::Set(d, two));
#if HWY_ARCH_X86
      sum[row][0] = hn::ReorderWidenMulAccumulate(d, input, left, sum[row][0], rest);
      sum[row][1] = hn::ReorderWidenMulAccumulate(d, input, right, sum[row][1], rest);
#else
      const auto even = [&](auto v) { return hn::ShiftRight<16>(hn::ShiftLeft<16>(hn::BitCast(d, v))); };
      const auto odd = [&](auto v) { return hn::ShiftRight<16>(hn::BitCast(d, v)); };
      sum[row][0] = hn::Add(sum[row][0], hn::Add(hn::Mul(even(input), even(left)), hn::Mul(odd(input), odd(left))));
      sum[row][1] = hn::Add(sum[row][1], hn::Add(hn::Mul(even(input), even(right)), hn::Mul(odd(input), odd(right))));
#endif
    }
    inputs += 4 * kTileRows;
    weights += 4 * kPanelColumns;
  }
#pragma GCC unroll 16
  for (int64_t row = 0; row < kTileRows; ++row) {
    hn::Store(sum[row][0], d, tile + row * kPanelColumns);
    hn::Store(sum[row][1], d, tile + row * kPanelColumns + kUnitLanes);
  }
}
#endif

void MultiplyTile(const uint8_t* inputs, const uint8_t* weights, int64_t units, int32_t* tile) {
#if ORRERY_QUADS
  if (UsesQuads()) return MultiplyQuads(inputs, weights, units, tile);
#endif
  MultiplyPairs(inputs, weights, units, tile);
}

// Units [start, start + count) of kUnitLanes rows of bytes [·, depth] to to[unit · stride + row]; rows from `valid` on are
// zeros, and so is what lies behind `depth`.
void Interleave(const int8_t* rows, int64_t row_stride, int64_t valid, int64_t depth, int64_t start, int64_t count,
                bool quads, uint32_t* to, int64_t stride) {
  const int64_t per_unit = quads ? 4 : 2;
  const auto unit_at = [&](int64_t row, int64_t unit) {
    uint32_t bits = 0;
    for (int64_t i = 0; i < per_unit; ++i) {
      const int64_t k = unit * per_unit + i;
      const int32_t value = row < valid && k < depth ? rows[row * row_stride + k] : 0;
      bits |= quads ? (static_cast<uint32_t>(value) & 0xFF) << (8 * i) : (static_cast<uint32_t>(value) & 0xFFFF) << (16 * i);
    }
    return bits;
  };
  int64_t unit = start;
#if HWY_TARGET != HWY_SCALAR
  const Units units;
  const hn::Repartition<int8_t, Units> bytes;
  const hn::Repartition<int16_t, Units> words;
  const hn::Half<decltype(bytes)> half_of_bytes;
  const int64_t whole = std::min(count, depth / per_unit - start) / kUnitLanes * kUnitLanes;
  for (; unit < start + whole; unit += kInterleaved) {
    const auto load = [&](int64_t row, int64_t i) {
      if (row >= valid) return hn::Zero(units);
      const int8_t* from = rows + row * row_stride + (unit + i) * per_unit;
      return quads ? hn::BitCast(units, hn::LoadU(bytes, from))
                   : hn::BitCast(units, hn::PromoteTo(words, hn::LoadU(half_of_bytes, from)));
    };
    InterleaveRows(load, std::min(kInterleaved, start + whole - unit), to + (unit - start) * stride, stride);
  }
  unit = start + std::max<int64_t>(whole, 0);
#endif
  for (; unit < start + count; ++unit)
    for (int64_t row = 0; row < kUnitLanes; ++row) to[(unit - start) * stride + row] = unit_at(row, unit);
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
  const bool quads = UsesQuads();
  const int64_t all_units = UnitsOf(matmul.depth), depth = matmul.depth;
  uint32_t* panels = reinterpret_cast<uint32_t*>(scratch);
  HWY_ALIGN int32_t tile[kTileRows * kPanelColumns];
  HWY_ALIGN int32_t excess[kColumnBlock];
  for (int64_t start = first_column; start < last_column; start += kColumnBlock) {
    const int64_t columns = std::min(kColumnBlock, last_column - start);
    for (int64_t first = 0; first < all_units; first += kUnitBlock) {
      const int64_t units = std::min(kUnitBlock, all_units - first);
      const int64_t padded = (columns + kPanelColumns - 1) / kPanelColumns * kPanelColumns;
      for (int64_t column = 0; column < padded; column += kUnitLanes)
        Interleave(matmul.weight + (start + column) * depth, depth, columns - column, depth, first, units, quads,
                   panels + column / kPanelColumns * kPanelColumns * units + column % kPanelColumns, kPanelColumns);
      std::fill_n(excess, kColumnBlock, 0);
      if (quads) {
        const int64_t from = first * 4, to = std::min(depth, (first + units) * 4);
        for (int64_t column = 0; column < columns; ++column) {
          const int8_t* row = matmul.weight + (start + column) * depth;
          int32_t sum = 0;
          for (int64_t k = from; k < to; ++k) sum += row[k];
          excess[column] = kOffset * sum;
        }
      }
      for (int64_t row = 0; row < matmul.rows; row += kTileRows) {
        const uint8_t* inputs = matmul.inputs + 4 * (row * all_units + first * kTileRows);
        for (int64_t column = 0; column < columns; column += kPanelColumns) {
          MultiplyTile(inputs, reinterpret_cast<const uint8_t*>(panels + column * units), units, tile);
          AddTile(tile, matmul, row, std::min(kTileRows, matmul.rows - row), start + column,
                  std::min(kPanelColumns, columns - column), excess + column, first == 0);
        }
      }
    }
  }
}

// x / scale to the nearest integer; returns the scale.
float RoundRow(const float* HWY_RESTRICT x, int64_t depth, int8_t* HWY_RESTRICT to) {
  const Floats d;
  const hn::Rebind<int8_t, Floats> d8;
  auto largest = hn::Zero(d), nothing = hn::Zero(d);
  const int64_t whole = depth / kUnitLanes * kUnitLanes;
  for (int64_t k = 0; k < whole; k += kUnitLanes) {
    const auto value = hn::LoadU(d, x + k);
    largest = hn::Max(largest, hn::Abs(value));
    nothing = hn::MulAdd(value, hn::Zero(d), nothing);  // 0, or NaN where something is not finite
  }
  float most = hn::GetLane(hn::MaxOfLanes(d, largest)), none = hn::GetLane(hn::SumOfLanes(d, nothing));
  for (int64_t k = whole; k < depth; ++k) {
    most = std::max(most, std::abs(x[k]));
    none += x[k] * 0.0f;
  }
  if (most == 0 || none != 0) {
    std::fill_n(to, depth, static_cast<int8_t>(0));
    return none;  // 0 or NaN
  }
  const float inverse = 127.0f / most;
  for (int64_t k = 0; k < whole; k += kUnitLanes)
    hn::StoreU(hn::DemoteTo(d8, hn::NearestInt(hn::Mul(hn::LoadU(d, x + k), hn::Set(d, inverse)))), d8, to + k);
  for (int64_t k = whole; k < depth; ++k) to[k] = static_cast<int8_t>(std::lrint(x[k] * inverse));
  return most / 127.0f;
}

void PackInt8Inputs(const float* inputs, int64_t rows, int64_t depth, int64_t first_panel, int64_t last_panel,
                    uint8_t* packed, float* scales, uint8_t* scratch) {
  const bool quads = UsesQuads();
  const int64_t units = UnitsOf(depth);
  HWY_ALIGN uint32_t block[kInterleaved * kUnitLanes];
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    const int64_t first = panel * kTileRows, valid = std::min(kTileRows, rows - first);
    int8_t* rounded = reinterpret_cast<int8_t*>(scratch);
    for (int64_t row = 0; row < valid; ++row)
      scales[first + row] = RoundRow(inputs + (first + row) * depth, depth, rounded + row * depth);
    uint8_t* to = packed + 4 * first * units;
    for (int64_t unit = 0; unit < units; unit += kInterleaved) {
      const int64_t count = std::min(kInterleaved, units - unit);
      for (int64_t part = 0; part < kTileRows; part += kUnitLanes) {
        const int64_t lanes = std::min(kUnitLanes, kTileRows - part);
        Interleave(rounded + part * depth, depth, valid - part, depth, unit, count, quads, block, kUnitLanes);
        for (int64_t i = 0; i < count; ++i)
          for (int64_t lane = 0; lane < lanes; ++lane) {
            // Adding 128 to a signed byte turns its highest bit.
            const uint32_t bits = block[i * kUnitLanes + lane] ^ (quads ? 0x80808080u : 0u);
            std::memcpy(to + 4 * ((unit + i) * kTileRows + part + lane), &bits, 4);
          }
      }
    }
  }
}

int64_t PackedBytes(int64_t rows, int64_t depth) {
  return (rows + kTileRows - 1) / kTileRows * kTileRows * UnitsOf(depth) * 4;
}

}  // namespace
}  // namespace orrery::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace orrery::kernels {

HWY_EXPORT(PackedBytes);
HWY_EXPORT(MultiplyInt8);
HWY_EXPORT(PackInt8Inputs);

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
