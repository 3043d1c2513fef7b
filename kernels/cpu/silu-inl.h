// x · sigmoid(x). Included once a target, inside kernels' foreach_target files.
#if defined(ORRERY_KERNELS_CPU_SILU_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ORRERY_KERNELS_CPU_SILU_INL_H_
#undef ORRERY_KERNELS_CPU_SILU_INL_H_
#else
#define ORRERY_KERNELS_CPU_SILU_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// exp overflows beyond 88, where the result has long been zero. A division takes as long as all the rest: x86's estimate of
/// the reciprocal (11 digits and more) gets its others by a step of Newton's.
template <class D>
HWY_INLINE hn::Vec<D> SiluOf(D d, hn::Vec<D> x) {
  const auto below = hn::Add(hn::Set(d, 1.f), hn::Exp(d, hn::Min(hn::Neg(x), hn::Set(d, 80.f))));
#if HWY_ARCH_X86
  const auto estimate = hn::ApproximateReciprocal(below);
  return hn::Mul(hn::Mul(x, estimate), hn::NegMulAdd(below, estimate, hn::Set(d, 2.f)));
#else
  return hn::Div(x, below);
#endif
}
HWY_INLINE float SiluOf(float x) {
  return x / (1 + std::exp(-x));
}

}  // namespace orrery::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
