// Widening float8 (e4m3) in registers. Included once a target, inside kernels' foreach_target files.
#if defined(ORRERY_KERNELS_CPU_FLOAT8_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ORRERY_KERNELS_CPU_FLOAT8_INL_H_
#undef ORRERY_KERNELS_CPU_FLOAT8_INL_H_
#else
#define ORRERY_KERNELS_CPU_FLOAT8_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels::HWY_NAMESPACE {

/// The float8 that stand in the highest byte of each lane; what lies below does not matter. As to_float(Float8).
template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> FromFloat8(D d, hwy::HWY_NAMESPACE::Vec<hwy::HWY_NAMESPACE::RebindToUnsigned<D>> top) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToUnsigned<D> bits;
  const auto sign = hn::And(top, hn::Set(bits, 0x80000000u));
  const auto rest = hn::And(hn::ShiftRight<4>(top), hn::Set(bits, 0x07F00000u));
  // As a float's bits they are 2^120 too small; the largest pattern is NaN.
  const auto value = hn::Mul(hn::BitCast(d, rest), hn::BitCast(d, hn::Set(bits, (127u + 120u) << 23)));
  const auto number = hn::IfThenElse(hn::RebindMask(d, hn::Eq(rest, hn::Set(bits, 0x07F00000u))), hn::NaN(d), value);
  return hn::Or(number, hn::BitCast(d, sign));
}

}  // namespace orrery::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
