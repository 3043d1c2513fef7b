// Interleaving rows for matrix products. Included once a target, inside kernels' foreach_target files.
#if defined(ORRERY_KERNELS_CPU_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ORRERY_KERNELS_CPU_PACK_INL_H_
#undef ORRERY_KERNELS_CPU_PACK_INL_H_
#else
#define ORRERY_KERNELS_CPU_PACK_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Up to a 512-bit register of 32-bit units.
using Units = hn::CappedTag<uint32_t, 16>;
constexpr int64_t kUnitLanes = hn::MaxLanes(Units());
/// A tile's rows, and registers of columns: the accumulators leave room for a row of weights and an input. Three registers a
/// row need fewer loads for each product than two, which tells where two threads share a core.
constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86;
constexpr int64_t kTileRows = kManyRegisters || HWY_ARCH_ARM_A64 ? 8 : 6;
constexpr int64_t kPanelRegisters = kManyRegisters ? 3 : 2;
/// Columns of a packed weight panel.
constexpr int64_t kPanelColumns = kPanelRegisters * kUnitLanes;

/// Units of each row that are interleaved at once.
constexpr int64_t kInterleaved = 64;

#if HWY_TARGET != HWY_SCALAR

/// The 128-bit blocks of a register, `stride` units apart.
template <class D>
HWY_INLINE void StoreBlocks(D d, hn::Vec<D> value, uint32_t* to, int64_t stride) {
  if constexpr (hn::MaxLanes(D()) == 4) {
    hn::Store(value, d, to);
  } else {
    const hn::Half<D> half;
    StoreBlocks(half, hn::LowerHalf(half, value), to, stride);
    StoreBlocks(half, hn::UpperHalf(half, value), to + static_cast<int64_t>(hn::MaxLanes(half)) / 4 * stride, stride);
  }
}

/// to[unit][lane] = row lane's unit, for kUnitLanes rows and `count` ≤ kInterleaved units, a multiple of kUnitLanes.
/// `load(row, unit)` gives kUnitLanes units of a row in one register. Rows go through a small buffer in which each register
/// finds, block by block, rows 0, 4, 8, …: then only transposes inside 128-bit blocks are left.
template <class Load>
HWY_INLINE void InterleaveRows(Load&& load, int64_t count, uint32_t* HWY_RESTRICT to, int64_t stride) {
  const Units d;
  const hn::RepartitionToWide<Units> d64;
  HWY_ALIGN uint32_t buffer[kInterleaved * kUnitLanes];
  for (int64_t row = 0; row < kUnitLanes; ++row) {
    uint32_t* place = buffer + (row % 4) * kUnitLanes + row / 4 * 4;
    for (int64_t unit = 0; unit < count; unit += kUnitLanes)
      StoreBlocks(d, load(row, unit), place + unit * kUnitLanes, 4 * kUnitLanes);
  }
  for (int64_t unit = 0; unit < count; unit += 4) {
    const uint32_t* from = buffer + unit * kUnitLanes;
    const auto r0 = hn::Load(d, from), r1 = hn::Load(d, from + kUnitLanes), r2 = hn::Load(d, from + 2 * kUnitLanes),
               r3 = hn::Load(d, from + 3 * kUnitLanes);
    const auto a = hn::BitCast(d64, hn::InterleaveLower(d, r0, r1)), b = hn::BitCast(d64, hn::InterleaveUpper(d, r0, r1));
    const auto c = hn::BitCast(d64, hn::InterleaveLower(d, r2, r3)), e = hn::BitCast(d64, hn::InterleaveUpper(d, r2, r3));
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, a, c)), d, to + (unit + 0) * stride);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, a, c)), d, to + (unit + 1) * stride);
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, b, e)), d, to + (unit + 2) * stride);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, b, e)), d, to + (unit + 3) * stride);
  }
}
#endif

/// Weights of 16 and 8 bits are transposed in pairs and fours along the depth, which halves and quarters the work.
template <typename T>
constexpr int64_t kPerUnit = sizeof(uint32_t) / sizeof(T);

template <typename T>
int64_t units_of(int64_t depth) {
  return (depth + kPerUnit<T> - 1) / kPerUnit<T>;
}

/// kUnitLanes rows of `depth` numbers interleaved: to[unit][lane]; rows from `valid` on are zeros.
template <typename T>
void Interleave(const T* from, int64_t from_stride, int64_t valid, int64_t depth, uint32_t* to, int64_t stride) {
  constexpr int64_t per = kPerUnit<T>;
  int64_t whole = 0;
#if HWY_TARGET != HWY_SCALAR
  const Units units;
  const hn::Repartition<T, Units> d;
  whole = depth / per / kUnitLanes * kUnitLanes;
  for (int64_t start = 0; start < whole; start += kInterleaved) {
    const int64_t count = std::min(kInterleaved, whole - start);
    // Sixteen rows are more streams than the processor follows by itself. What is asked for behind a row's end does no harm.
    for (int64_t r = 0; r < std::min(valid, kUnitLanes); ++r)
      for (int64_t ahead = kInterleaved; ahead < 2 * kInterleaved; ahead += 16)
        hwy::Prefetch(from + r * from_stride + (start + ahead) * per);
    InterleaveRows(
        [&](int64_t r, int64_t unit) {
          if (r >= valid) return hn::Zero(units);
          return hn::BitCast(units, hn::LoadU(d, from + r * from_stride + (start + unit) * per));
        },
        count, to + start * stride, stride);
  }
#endif
  for (int64_t unit = whole; unit < units_of<T>(depth); ++unit)
    for (int64_t r = 0; r < kUnitLanes; ++r) {
      T parts[sizeof(uint32_t) / sizeof(T)] = {};
      for (int64_t i = 0; r < valid && i < std::min(per, depth - unit * per); ++i)
        parts[i] = from[r * from_stride + unit * per + i];
      std::memcpy(to + unit * stride + r, parts, sizeof parts);
    }
}

}  // namespace orrery::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
