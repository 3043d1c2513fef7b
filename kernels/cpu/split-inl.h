// float32 as a sum of bfloat16. Included once a target, inside kernels' foreach_target files.
#if defined(ORRERY_KERNELS_CPU_SPLIT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ORRERY_KERNELS_CPU_SPLIT_INL_H_
#undef ORRERY_KERNELS_CPU_SPLIT_INL_H_
#else
#define ORRERY_KERNELS_CPU_SPLIT_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Three bfloat16 as the upper halves of 32 bits; the lower are zeros.
template <class D>
struct Parts {
  hn::Vec<hn::RebindToUnsigned<D>> bits[3];
};

/// x as three bfloat16 of 8 digits each, rounded, which together hold the 24 of float32: they add up to x exactly, but for
/// what lies below 2^-126 (parts of numbers below 2^-102), which tiles take as zeros. Infinity and NaN are their own first
/// part, the others 0: then products with a finite bfloat16 come out as those of float32. With another split number, or with
/// an infinity, they may be NaN where float32 says infinity.
template <class D>
HWY_INLINE Parts<D> Split(D d, hn::Vec<D> x) {
  const hn::RebindToUnsigned<D> d32;
  const auto upper = hn::Set(d32, 0xFFFF0000u), sign = hn::Set(d32, 0x80000000u);
  const auto rounded = [&](auto value) {  // halves away from zero; the largest numbers do not become infinite
    const auto bits = hn::BitCast(d32, value);
    const auto magnitude = hn::And(hn::Add(hn::AndNot(sign, bits), hn::Set(d32, 0x8000u)), upper);
    return hn::Or(hn::Min(magnitude, hn::Set(d32, 0x7F7F0000u)), hn::And(bits, sign));
  };
  const auto finite = hn::IsFinite(x);
  const auto high = hn::IfThenElse(hn::RebindMask(d32, finite), rounded(x), hn::And(hn::BitCast(d32, hn::Add(x, x)), upper));
  const auto rest = hn::IfThenElseZero(finite, hn::Sub(x, hn::BitCast(d, high)));
  const auto middle = rounded(rest);
  const auto low = hn::And(hn::BitCast(d32, hn::Sub(rest, hn::BitCast(d, middle))), upper);
  return {{high, middle, low}};
}

/// The upper halves of two vectors, one after the other.
template <class D>
HWY_INLINE void StoreUpperHalves(D d, hn::Vec<hn::RebindToUnsigned<D>> first, hn::Vec<hn::RebindToUnsigned<D>> second,
                                 uint16_t* HWY_RESTRICT to) {
#if HWY_TARGET == HWY_SCALAR
  (void)d;
  to[0] = static_cast<uint16_t>(hn::GetLane(first) >> 16);
  to[1] = static_cast<uint16_t>(hn::GetLane(second) >> 16);
#else
  const hn::Repartition<uint16_t, D> d16;
  hn::StoreU(hn::ConcatOdd(d16, hn::BitCast(d16, second), hn::BitCast(d16, first)), d16, to);
#endif
}

/// A tile's row: `count` ≤ 32 floats, zeros behind them, as bfloat16; the parts `part_stride` numbers apart.
inline void SplitRow(const float* HWY_RESTRICT from, int64_t count, uint16_t* HWY_RESTRICT to, int64_t part_stride) {
  constexpr int64_t kCount = 32;
  const hn::CappedTag<float, 16> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  float padded[kCount];
  if (count < kCount) {
    std::fill(std::copy_n(from, count, padded), padded + kCount, 0.0f);
    from = padded;
  }
  for (int64_t k = 0; k < kCount; k += 2 * kLanes) {
    const auto first = Split(d, hn::LoadU(d, from + k)), second = Split(d, hn::LoadU(d, from + k + kLanes));
    for (int64_t part = 0; part < 3; ++part)
      StoreUpperHalves(d, first.bits[part], second.bits[part], to + part * part_stride + k);
  }
}

}  // namespace orrery::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
