// Vectors that are only partly there, for the last channels of a row. Highway's masked loads and stores touch the bytes
// behind the mask on processors without masks in hardware.
#if defined(ORRERY_KERNELS_PARTIAL_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ORRERY_KERNELS_PARTIAL_INL_H
#undef ORRERY_KERNELS_PARTIAL_INL_H
#else
#define ORRERY_KERNELS_PARTIAL_INL_H
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels {
namespace HWY_NAMESPACE {

/// The first `count` values from `from`, then zeros.
template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> load_some(D d, const float* from, int64_t count) {
  HWY_ALIGN float values[hwy::HWY_NAMESPACE::MaxLanes(d)] = {};
  for (int64_t i = 0; i < count; ++i) values[i] = from[i];
  return hwy::HWY_NAMESPACE::Load(d, values);
}

/// Stores the first `count` values.
template <class D>
HWY_INLINE void store_some(hwy::HWY_NAMESPACE::Vec<D> value, D d, float* to, int64_t count) {
  HWY_ALIGN float values[hwy::HWY_NAMESPACE::MaxLanes(d)];
  hwy::HWY_NAMESPACE::Store(value, d, values);
  for (int64_t i = 0; i < count; ++i) to[i] = values[i];
}

}  // namespace HWY_NAMESPACE
}  // namespace orrery::kernels
HWY_AFTER_NAMESPACE();

#endif
