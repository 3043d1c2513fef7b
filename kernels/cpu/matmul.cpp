#include "kernels/matmul.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include "kernels/cpu/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels::HWY_NAMESPACE {
namespace {

using Floats = hn::CappedTag<float, 16>;
using Vector = hn::Vec<Floats>;

// A tile's inputs (12 x 512 floats) lie in the first-level cache, the packed weights (256 x 512) in the second.
constexpr int64_t kDepthBlock = 512;
constexpr int64_t kColumnBlock = 256;
static_assert(kDepthBlock % kInterleaved == 0 && kColumnBlock % kPanelColumns == 0);

// tile[row][column] = Σ inputs[k][row] · weights[k][column]
HWY_NOINLINE void MultiplyTile(const float* HWY_RESTRICT inputs, const float* HWY_RESTRICT weights, int64_t depth,
                               float* HWY_RESTRICT tile) {
  const Floats d;
  Vector sum[kTileRows][2];
#pragma GCC unroll 16
  for (int64_t row = 0; row < kTileRows; ++row) sum[row][0] = sum[row][1] = hn::Zero(d);
  for (int64_t k = 0; k < depth; ++k) {
    const Vector left = hn::Load(d, weights), right = hn::Load(d, weights + kUnitLanes);
#pragma GCC unroll 16
    for (int64_t row = 0; row < kTileRows; ++row) {
      const Vector input = hn::Set(d, inputs[row]);
      sum[row][0] = hn::MulAdd(input, left, sum[row][0]);
      sum[row][1] = hn::MulAdd(input, right, sum[row][1]);
    }
    inputs += kTileRows;
    weights += kPanelColumns;
  }
#pragma GCC unroll 16
  for (int64_t row = 0; row < kTileRows; ++row) {
    hn::Store(sum[row][0], d, tile + row * kPanelColumns);
    hn::Store(sum[row][1], d, tile + row * kPanelColumns + kUnitLanes);
  }
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

#if HWY_TARGET != HWY_SCALAR
// A register of a row's elements as float32.
HWY_INLINE Vector LoadMany(const float* from) {
  return hn::LoadU(Floats(), from);
}
HWY_INLINE Vector LoadMany(const uint16_t* from) {
  const hn::Rebind<uint16_t, Floats> half;
  return hn::BitCast(Floats(), hn::ShiftLeft<16>(hn::PromoteTo(Units(), hn::LoadU(half, from))));
}
#endif
HWY_INLINE float LoadOne(const float* from) {
  return *from;
}
HWY_INLINE float LoadOne(const uint16_t* from) {
  const uint32_t bits = static_cast<uint32_t>(*from) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Rows [0, lanes) of a sum of matrices interleaved: to[k][row], `depth` a k; rows from `valid` on are zeros.
template <typename T>
void Interleave(const MatrixSum<T>& from, int64_t row, int64_t valid, int64_t k, int64_t depth, float* to, int64_t stride) {
  const T* first = from.first + row * from.stride + k;
  const T* second = from.second ? from.second + row * from.stride + k : nullptr;
  int64_t whole = 0;
#if HWY_TARGET != HWY_SCALAR
  const Floats d;
  const Units units;
  const Vector sign = hn::Set(d, from.sign);
  const auto load = [&](int64_t r, int64_t unit) {
    if (r >= valid) return hn::Zero(units);
    Vector value = LoadMany(first + r * from.stride + unit);
    if (second) value = hn::MulAdd(LoadMany(second + r * from.stride + unit), sign, value);
    return hn::BitCast(units, value);
  };
  whole = depth / kUnitLanes * kUnitLanes;
  for (int64_t start = 0; start < whole; start += kInterleaved) {
    const int64_t count = std::min(kInterleaved, whole - start);
    // Sixteen rows are more streams than the processor follows by itself. What is asked for behind a row's end does no harm.
    for (int64_t r = 0; r < std::min(valid, kUnitLanes); ++r)
      for (int64_t unit = kInterleaved; unit < 2 * kInterleaved; unit += static_cast<int64_t>(64 / sizeof(T))) {
        hwy::Prefetch(first + r * from.stride + start + unit);
        if (second) hwy::Prefetch(second + r * from.stride + start + unit);
      }
    InterleaveRows([&](int64_t r, int64_t unit) { return load(r, start + unit); }, count,
                   reinterpret_cast<uint32_t*>(to + start * stride), stride);
  }
#endif
  for (int64_t unit = whole; unit < depth; ++unit)
    for (int64_t r = 0; r < kUnitLanes; ++r) {
      float value = r < valid ? LoadOne(first + r * from.stride + unit) : 0.0f;
      if (second && r < valid) value += from.sign * LoadOne(second + r * from.stride + unit);
      to[unit * stride + r] = value;
    }
}

template <typename T>
void MultiplyColumns(const Matmul& matmul, int64_t first_column, int64_t last_column, float* scratch) {
  const MatrixSum<T> weight{static_cast<const T*>(matmul.weight.first), static_cast<const T*>(matmul.weight.second),
                            matmul.weight.sign, matmul.weight.stride};
  HWY_ALIGN float tile[kTileRows * kPanelColumns];
  for (int64_t start = first_column; start < last_column; start += kColumnBlock) {
    const int64_t columns = std::min(kColumnBlock, last_column - start);
    for (int64_t k = 0; k < matmul.depth; k += kDepthBlock) {
      const int64_t depth = std::min(kDepthBlock, matmul.depth - k);
      for (int64_t column = 0; column < columns; column += kUnitLanes) {
        float* panel = scratch + column / kPanelColumns * kPanelColumns * depth + column % kPanelColumns;
        Interleave(weight, start + column, columns - column, k, depth, panel, kPanelColumns);
      }
      // A panel of an odd number of half-panels is filled up with zeros, so that no tile reads what is not there.
      if (const int64_t rest = (columns + kUnitLanes - 1) / kUnitLanes; rest % 2 == 1) {
        float* panel = scratch + rest / 2 * kPanelColumns * depth + kUnitLanes;
        for (int64_t i = 0; i < depth; ++i) std::fill_n(panel + i * kPanelColumns, kUnitLanes, 0.0f);
      }
      for (int64_t row = 0; row < matmul.rows; row += kTileRows) {
        const float* inputs = matmul.inputs + row * matmul.depth + k * kTileRows;
        const int64_t rows = std::min(kTileRows, matmul.rows - row);
        for (int64_t column = 0; column < columns; column += kPanelColumns) {
          for (const ProductTarget& target : matmul.targets)
            if (target.data) Prefetch(target.data + row * matmul.output_stride + start + column, rows, matmul.output_stride);
          MultiplyTile(inputs, scratch + column * depth, depth, tile);
          for (const ProductTarget& target : matmul.targets) {
            if (!target.data) continue;
            AddTile(tile, rows, std::min(kPanelColumns, columns - column), target,
                    target.data + row * matmul.output_stride + start + column, matmul.output_stride,
                    target.overwrite && k == 0, target.bias ? target.bias + start + column : nullptr);
          }
        }
      }
    }
  }
}

void Multiply(const Matmul& matmul, int64_t first_column, int64_t last_column, float* scratch) {
  if (matmul.storage == WeightStorage::kBFloat16)
    MultiplyColumns<uint16_t>(matmul, first_column, last_column, scratch);
  else
    MultiplyColumns<float>(matmul, first_column, last_column, scratch);
}

// Panels of kTileRows rows: packed[panel][k][row].
void PackInputs(const MatrixSum<float>& inputs, int64_t rows, int64_t depth, int64_t first_panel, int64_t last_panel,
                float* packed) {
  constexpr int64_t kLanes = std::min(kUnitLanes, kTileRows);
  HWY_ALIGN float block[kInterleaved * kUnitLanes];
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    for (int64_t k = 0; k < depth; k += kInterleaved) {
      const int64_t count = std::min(kInterleaved, depth - k);
      for (int64_t part = 0; part < kTileRows; part += kLanes) {
        const int64_t row = panel * kTileRows + part;
        Interleave(inputs, row, rows - row, k, count, block, kUnitLanes);
        float* to = packed + (panel * depth + k) * kTileRows + part;
        if (part + kLanes <= kTileRows) {  // a copy of known length is two moves
          for (int64_t i = 0; i < count; ++i)
            std::memcpy(to + i * kTileRows, block + i * kUnitLanes, kLanes * sizeof(float));
        } else {
          for (int64_t i = 0; i < count; ++i) std::copy_n(block + i * kUnitLanes, kTileRows - part, to + i * kTileRows);
        }
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
  return 256 * 512 + 16;
}

void pack_inputs(const MatrixSum<float>& inputs, int64_t rows, int64_t depth, int64_t first_panel, int64_t last_panel,
                 float* packed) {
  HWY_DYNAMIC_DISPATCH(PackInputs)(inputs, rows, depth, first_panel, last_panel, packed);
}

void multiply(const Matmul& matmul, int64_t first_column, int64_t last_column, float* scratch) {
  HWY_DYNAMIC_DISPATCH(Multiply)(matmul, first_column, last_column, scratch);
}

}  // namespace orrery::kernels
#endif
