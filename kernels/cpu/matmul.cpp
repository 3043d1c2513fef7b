#include "kernels/matmul.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include "kernels/cpu/float8-inl.h"
#include "kernels/cpu/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels::HWY_NAMESPACE {
namespace {

using Floats = hn::CappedTag<float, 16>;
using Vector = hn::Vec<Floats>;

// Blocks of the weight: up to four quarters of 96 columns and the term that is being multiplied lie in the second-level
// cache. Deep blocks write the output seldom.
constexpr int64_t kColumnBlock = 96;
template <typename T>
constexpr int64_t kDepthBlock = sizeof(T) == sizeof(float) ? 512 : 1024;
static_assert(kColumnBlock % kPanelColumns == 0);

// Steps of the depth that packed weights are asked for ahead: they come from the second-level cache.
constexpr int64_t kAhead = 8;
// Steps between two lines of inputs that are asked for, and a line's floats. It wins 5 % with 16 registers; with AVX-512,
// whose tile does more work for each input, it loses 3 %.
constexpr bool kAsksAhead = !kManyRegisters;
constexpr int64_t kSteps = kAsksAhead ? 4 : 1, kLine = 16;

// One step of the depth, for every register of the tile.
HWY_INLINE void MultiplyStep(const float* HWY_RESTRICT inputs, const float* HWY_RESTRICT weights,
                             Vector (&sum)[kTileRows][kPanelRegisters]) {
  const Floats d;
  Vector weight[kPanelRegisters];
#pragma GCC unroll 4
  for (int64_t i = 0; i < kPanelRegisters; ++i) weight[i] = hn::Load(d, weights + i * kUnitLanes);
#pragma GCC unroll 4
  for (int64_t column = 0; column < kPanelColumns; column += 16) hwy::Prefetch(weights + kAhead * kPanelColumns + column);
#pragma GCC unroll 16
  for (int64_t row = 0; row < kTileRows; ++row) {
    const Vector input = hn::Set(d, inputs[row]);
#pragma GCC unroll 4
    for (int64_t i = 0; i < kPanelRegisters; ++i) sum[row][i] = hn::MulAdd(input, weight[i], sum[row][i]);
  }
}

// tile[row][column] = Σ inputs[k][row] · weights[k][column]. Where kAsksAhead, a cache line behind `ahead` is asked for every
// kSteps steps: inputs of the next tiles, which come from the third-level cache.
HWY_NOINLINE void MultiplyTile(const float* HWY_RESTRICT inputs, const float* HWY_RESTRICT weights, const float* ahead,
                               int64_t depth, float* HWY_RESTRICT tile) {
  const Floats d;
  Vector sum[kTileRows][kPanelRegisters];
#pragma GCC unroll 16
  for (int64_t row = 0; row < kTileRows; ++row)
#pragma GCC unroll 4
    for (int64_t i = 0; i < kPanelRegisters; ++i) sum[row][i] = hn::Zero(d);
  int64_t k = 0;
  for (; k + kSteps <= depth; k += kSteps) {
    if constexpr (kAsksAhead) hwy::Prefetch(ahead);
    ahead += kLine;
#pragma GCC unroll 8
    for (int64_t step = 0; step < kSteps; ++step)
      MultiplyStep(inputs + step * kTileRows, weights + step * kPanelColumns, sum);
    inputs += kSteps * kTileRows;
    weights += kSteps * kPanelColumns;
  }
  for (; k < depth; ++k, inputs += kTileRows, weights += kPanelColumns) MultiplyStep(inputs, weights, sum);
#pragma GCC unroll 16
  for (int64_t row = 0; row < kTileRows; ++row)
#pragma GCC unroll 4
    for (int64_t i = 0; i < kPanelRegisters; ++i) hn::Store(sum[row][i], d, tile + row * kPanelColumns + i * kUnitLanes);
}

// What AddTile() will write to: it comes while the tile is multiplied.
HWY_INLINE void Prefetch(const float* to, int64_t rows, int64_t stride) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < kPanelColumns; column += 16) hwy::Prefetch(to + row * stride + column);
}

void AddTile(const float* HWY_RESTRICT tile, int64_t rows, int64_t columns, const ProductTarget& target,
             float* HWY_RESTRICT to, int64_t stride, bool overwrite, const float* bias) {
  const Floats d;
  const Vector sign = hn::Set(d, target.sign);
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = tile + row * kPanelColumns;
    float* HWY_RESTRICT out = to + row * stride;
    int64_t column = 0;
    for (; column + kUnitLanes <= columns; column += kUnitLanes) {
      Vector old = hn::Zero(d);
      if (!overwrite)
        old = hn::LoadU(d, out + column);
      else if (bias)
        old = hn::LoadU(d, bias + column);
      hn::StoreU(hn::MulAdd(hn::Load(d, from + column), sign, old), d, out + column);
    }
    for (; column < columns; ++column) {
      const float old = !overwrite ? out[column] : bias ? bias[column] : 0.0f;
      out[column] = old + target.sign * from[column];
    }
  }
}

// A block of the weight as panels: packed[panel][unit][column].
template <typename T>
void PackWeight(const T* from, int64_t stride, int64_t columns, int64_t depth, uint32_t* packed) {
  const int64_t panel = kPanelColumns * units_of<T>(depth);
  for (int64_t column = 0; column < columns; column += kPanelColumns, packed += panel)
    for (int64_t half = 0; half < kPanelColumns; half += kUnitLanes)
      Interleave(from + (column + half) * stride, stride, columns - column - half, depth, packed + half, kPanelColumns);
}

// Of a unit of 16-bit numbers, or of float8, the one at place `i`, of a unit of 32 bits the number itself.
template <typename T>
HWY_INLINE Vector Expand(hn::Vec<Units> unit, int i) {
  const Floats d;
  if constexpr (sizeof(T) == sizeof(float)) return hn::BitCast(d, unit);
  if constexpr (sizeof(T) == sizeof(uint8_t)) return FromFloat8(d, hn::ShiftLeftSame(unit, 24 - 8 * i));
  return hn::BitCast(d, i == 0 ? hn::ShiftLeft<16>(unit) : hn::And(unit, hn::Set(Units(), 0xFFFF0000u)));
}

// first + sign · second as float32, `units` units of one panel or of many; `second` may be null.
template <typename T>
void ExpandTerm(const uint32_t* HWY_RESTRICT first, const uint32_t* HWY_RESTRICT second, float sign, int64_t units,
                float* HWY_RESTRICT to) {
  const Floats d;
  const Units d32;
  constexpr int64_t per = kPerUnit<T>;
  const Vector factor = hn::Set(d, sign);
  for (int64_t unit = 0; unit < units; ++unit, to += per * kPanelColumns)
    for (int64_t half = 0; half < kPanelColumns; half += kUnitLanes)
      for (int i = 0; i < per; ++i) {
        Vector value = Expand<T>(hn::Load(d32, first + unit * kPanelColumns + half), i);
        if (second) value = hn::MulAdd(Expand<T>(hn::Load(d32, second + unit * kPanelColumns + half), i), factor, value);
        hn::Store(value, d, to + i * kPanelColumns + half);
      }
}

// Every tile of one product: the packed inputs from `k` on times a block of the weight.
void MultiplyTiles(const Matmul& matmul, const Product& product, const float* inputs, int64_t k, int64_t depth,
                   const float* panels, int64_t panel_floats, int64_t first_column, int64_t columns) {
  // A tile asks for so much of the next rows' panel, and so many tiles for all of it.
  const int64_t lines = depth / kSteps * kLine;
  constexpr int64_t kTiles = (kTileRows * kSteps + kLine - 1) / kLine;
  HWY_ALIGN float tile[kTileRows * kPanelColumns];
  for (int64_t row = 0; row < matmul.rows; row += kTileRows) {
    const float* panel = inputs + row * matmul.depth + k * kTileRows;
    const float* next = panel + kTileRows * matmul.depth;
    const int64_t rows = std::min(kTileRows, matmul.rows - row);
    for (int64_t column = 0; column < columns; column += kPanelColumns) {
      const int64_t place = row * matmul.output_stride + first_column + column;
      for (const ProductTarget& target : product.targets)
        if (target.data) Prefetch(target.data + place, rows, matmul.output_stride);
      MultiplyTile(panel, panels + column / kPanelColumns * panel_floats, next + column / kPanelColumns % kTiles * lines,
                   depth, tile);
      for (const ProductTarget& target : product.targets)
        if (target.data)
          AddTile(tile, rows, std::min(kPanelColumns, columns - column), target, target.data + place, matmul.output_stride,
                  target.overwrite && k == 0, target.bias ? target.bias + first_column + column : nullptr);
    }
  }
}

template <typename T>
void MultiplyColumns(const Matmul& matmul, int64_t first_column, int64_t last_column, float* scratch) {
  const int64_t product_floats = (matmul.rows + kTileRows - 1) / kTileRows * kTileRows * matmul.depth;
  const int64_t parts = (matmul.depth + kDepthBlock<T> - 1) / kDepthBlock<T>;
  const int64_t most_depth = ((matmul.depth + parts - 1) / parts + kInterleaved - 1) / kInterleaved * kInterleaved;
  float* const panels = scratch;
  uint32_t* const packed = reinterpret_cast<uint32_t*>(scratch + kColumnBlock * kDepthBlock<T>);
  for (int64_t start = first_column; start < last_column; start += kColumnBlock) {
    const int64_t columns = std::min(kColumnBlock, last_column - start);
    for (int64_t k = 0; k < matmul.depth; k += most_depth) {
      const int64_t depth = std::min(most_depth, matmul.depth - k);
      const int64_t units = units_of<T>(depth) * ((columns + kPanelColumns - 1) / kPanelColumns);
      const auto quarter = [&](int q) { return q < 0 ? nullptr : packed + q * units * kPanelColumns; };
      for (int q = 0; q < 4; ++q)
        if (matmul.weight.at[q])
          PackWeight(static_cast<const T*>(matmul.weight.at[q]) + start * matmul.weight.stride + k, matmul.weight.stride,
                     columns, depth, quarter(q));
      const float* inputs = matmul.inputs;
      for (const Product& product : matmul.products) {
        const Term& term = product.weight;
        const bool ready = sizeof(T) == sizeof(float) && term.second < 0;
        if (!ready) ExpandTerm<T>(quarter(term.first), quarter(term.second), term.sign, units, panels);
        MultiplyTiles(matmul, product, inputs, k, depth,
                      ready ? reinterpret_cast<const float*>(quarter(term.first)) : panels,
                      kPanelColumns * units_of<T>(depth) * kPerUnit<T>, start, columns);
        inputs += product_floats;
      }
    }
  }
}

void Multiply(const Matmul& matmul, int64_t first_column, int64_t last_column, float* scratch) {
  switch (matmul.storage) {
    case WeightStorage::kFloat32: return MultiplyColumns<float>(matmul, first_column, last_column, scratch);
    case WeightStorage::kBFloat16: return MultiplyColumns<uint16_t>(matmul, first_column, last_column, scratch);
    case WeightStorage::kFloat8: return MultiplyColumns<uint8_t>(matmul, first_column, last_column, scratch);
  }
}

// Panels of kTileRows rows: packed[product][panel][k][row].
void PackInputs(const Quarters<float>& inputs, std::span<const Product> products, int64_t rows, int64_t depth,
                int64_t first_panel, int64_t last_panel, float* packed) {
  // A register of rows is one panel, a part of one or two.
  constexpr int64_t kLanes = std::min(kUnitLanes, kTileRows), kPanels = std::max<int64_t>(1, kUnitLanes / kTileRows);
  const Floats d;
  const int64_t panel_floats = depth * kTileRows, product_floats = (rows + kTileRows - 1) / kTileRows * panel_floats;
  HWY_ALIGN float blocks[4][kInterleaved * kUnitLanes];
  HWY_ALIGN float sum[kUnitLanes];
  for (int64_t panel = first_panel; panel < last_panel; panel += kPanels)
    for (int64_t k = 0; k < depth; k += kInterleaved) {
      const int64_t count = std::min(kInterleaved, depth - k), panels = std::min(kPanels, last_panel - panel);
      for (int64_t part = 0; part < kTileRows; part += kLanes) {
        const int64_t row = panel * kTileRows + part, lanes = std::min(kLanes, kTileRows - part);
        for (int q = 0; q < 4; ++q)
          if (inputs.at[q])
            Interleave(inputs.at[q] + row * inputs.stride + k, inputs.stride, std::min(panels * lanes, rows - row), count,
                       reinterpret_cast<uint32_t*>(blocks[q]), kUnitLanes);
        float* to = packed + panel * panel_floats + k * kTileRows + part;
        for (const Product& product : products) {
          const float* first = blocks[product.input.first];
          const float* second = product.input.second < 0 ? nullptr : blocks[product.input.second];
          const Vector sign = hn::Set(d, product.input.sign);
          for (int64_t i = 0; i < count; ++i) {
            Vector value = hn::Load(d, first + i * kUnitLanes);
            if (second) value = hn::MulAdd(hn::Load(d, second + i * kUnitLanes), sign, value);
            hn::Store(value, d, sum);
            for (int64_t p = 0; p < panels; ++p) {
              float* const place = to + p * panel_floats + i * kTileRows;
              if (lanes == kLanes)  // a copy of known length is a move or two
                std::memcpy(place, sum + p * kTileRows, kLanes * sizeof(float));
              else
                std::copy_n(sum, lanes, place);
            }
          }
          to += product_floats;
        }
      }
    }
}

int64_t TileRows() {
  return kTileRows;
}

}  // namespace
}  // namespace orrery::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace orrery::kernels {

HWY_EXPORT(Multiply);
HWY_EXPORT(PackInputs);
HWY_EXPORT(TileRows);

int64_t matmul_panel_rows() {
  return HWY_DYNAMIC_DISPATCH(TileRows)();
}

int64_t packed_input_floats(int64_t rows, int64_t depth) {
  const int64_t panel = matmul_panel_rows();
  return (rows + panel - 1) / panel * panel * depth;
}

int64_t matmul_scratch_floats() {
  return (1 + 2) * 96 * 1024;  // a term, and four blocks of the weight in at most 16 bits, or half as deep in 32
}

void pack_inputs(const Quarters<float>& inputs, std::span<const Product> products, int64_t rows, int64_t depth,
                 int64_t first_panel, int64_t last_panel, float* packed) {
  HWY_DYNAMIC_DISPATCH(PackInputs)(inputs, products, rows, depth, first_panel, last_panel, packed);
}

void multiply(const Matmul& matmul, int64_t first_column, int64_t last_column, float* scratch) {
  HWY_DYNAMIC_DISPATCH(Multiply)(matmul, first_column, last_column, scratch);
}

}  // namespace orrery::kernels
#endif
