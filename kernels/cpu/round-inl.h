// Rounding rows of inputs to 8 bits. Included once a target, inside kernels' foreach_target files.
#if defined(ORRERY_KERNELS_CPU_ROUND_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ORRERY_KERNELS_CPU_ROUND_INL_H_
#undef ORRERY_KERNELS_CPU_ROUND_INL_H_
#else
#define ORRERY_KERNELS_CPU_ROUND_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// How inputs are rounded: to ±levels, and `offset` added, for instructions that take one side unsigned.
struct Rounding {
  int32_t levels, offset;
};

/// x / scale to the nearest integer, plus the offset; returns the scale: 0 where all are zeros, NaN where one is not finite.
inline float RoundRow(const float* HWY_RESTRICT x, int64_t depth, const Rounding& rounding, uint8_t* HWY_RESTRICT to) {
  const hn::CappedTag<float, 16> d;
  const hn::RebindToSigned<decltype(d)> i32;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  auto largest = hn::Zero(d), nothing = hn::Zero(d);
  const int64_t whole = depth / kLanes * kLanes;
  for (int64_t k = 0; k < whole; k += kLanes) {
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
    std::fill_n(to, depth, static_cast<uint8_t>(rounding.offset));
    return none;  // 0 or NaN
  }
  const float levels = static_cast<float>(rounding.levels), inverse = levels / most;
  for (int64_t k = 0; k < whole; k += kLanes) {
    const auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(d, x + k), hn::Set(d, inverse)));
    hn::StoreU(hn::DemoteTo(d8, hn::Add(rounded, hn::Set(i32, rounding.offset))), d8, to + k);
  }
  for (int64_t k = whole; k < depth; ++k) to[k] = static_cast<uint8_t>(std::lrint(x[k] * inverse) + rounding.offset);
  return most / levels;
}

}  // namespace orrery::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
