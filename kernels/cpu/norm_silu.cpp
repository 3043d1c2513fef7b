#include "kernels/norm_silu.h"

#include <cmath>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norm_silu.cpp"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/cpu/partial-inl.h"
#include "kernels/cpu/silu-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr D d;

void normalise_rows(const float* x, const float* gamma, int64_t channels, int64_t begin, int64_t end, float* y) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), whole = channels / lanes * lanes;
  const int64_t rest = channels - whole;
  const float root = std::sqrt(static_cast<float>(channels));
  for (int64_t row = begin; row < end; ++row) {
    const float* from = x + row * channels;
    float* to = y + row * channels;
    V sum = hn::Zero(d), more = hn::Zero(d);
    int64_t i = 0;
    for (; i + 2 * lanes <= whole; i += 2 * lanes) {
      const V a = hn::LoadU(d, from + i), b = hn::LoadU(d, from + i + lanes);
      sum = hn::MulAdd(a, a, sum);
      more = hn::MulAdd(b, b, more);
    }
    for (; i < whole; i += lanes) sum = hn::MulAdd(hn::LoadU(d, from + i), hn::LoadU(d, from + i), sum);
    if (whole < channels) {
      const V a = load_some(d, from + whole, rest);
      more = hn::MulAdd(a, a, more);
    }
    const float length = std::sqrt(hn::GetLane(hn::SumOfLanes(d, hn::Add(sum, more))));
    const V factor = hn::Set(d, root / std::fmax(length, 1e-12f));
    for (i = 0; i < whole; i += lanes) {
      hn::StoreU(SiluOf(d, hn::Mul(hn::Mul(hn::LoadU(d, from + i), factor), hn::LoadU(d, gamma + i))), d, to + i);
    }
    if (whole < channels) {
      const V value = hn::Mul(hn::Mul(load_some(d, from + whole, rest), factor), load_some(d, gamma + whole, rest));
      store_some(SiluOf(d, value), d, to + whole, rest);
    }
  }
}

Moments sum_up(const float* x, int64_t begin, int64_t end) {
  const hn::ScalableTag<double> wide;
  const hn::Rebind<float, decltype(wide)> half;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(wide));
  auto sum = hn::Zero(wide), squares = hn::Zero(wide);
  int64_t i = begin;
  for (; i + lanes <= end; i += lanes) {
    const auto value = hn::PromoteTo(wide, hn::LoadU(half, x + i));
    sum = hn::Add(sum, value);
    squares = hn::MulAdd(value, value, squares);
  }
  Moments total{hn::GetLane(hn::SumOfLanes(wide, sum)), hn::GetLane(hn::SumOfLanes(wide, squares))};
  for (; i < end; ++i) {
    total.sum += x[i];
    total.squares += static_cast<double>(x[i]) * x[i];
  }
  return total;
}

void affine_rows(const float* x, float mean, const float* scale, const float* shift, int64_t channels, int64_t begin,
                 int64_t end, float* y) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), whole = channels / lanes * lanes;
  const int64_t rest = channels - whole;
  const V centre = hn::Set(d, mean);
  for (int64_t row = begin; row < end; ++row) {
    const float* from = x + row * channels;
    float* to = y + row * channels;
    for (int64_t i = 0; i < whole; i += lanes) {
      hn::StoreU(
          SiluOf(d, hn::MulAdd(hn::Sub(hn::LoadU(d, from + i), centre), hn::LoadU(d, scale + i), hn::LoadU(d, shift + i))),
          d, to + i);
    }
    if (whole < channels) {
      const V value = hn::MulAdd(hn::Sub(load_some(d, from + whole, rest), centre), load_some(d, scale + whole, rest),
                                 load_some(d, shift + whole, rest));
      store_some(SiluOf(d, value), d, to + whole, rest);
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace orrery::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace orrery::kernels {

HWY_EXPORT(normalise_rows);
HWY_EXPORT(sum_up);
HWY_EXPORT(affine_rows);

void l2_norm_silu(const float* x, const float* gamma, int64_t channels, int64_t begin, int64_t end, float* y) {
  HWY_DYNAMIC_DISPATCH(normalise_rows)(x, gamma, channels, begin, end, y);
}

Moments moments(const float* x, int64_t begin, int64_t end) {
  return HWY_DYNAMIC_DISPATCH(sum_up)(x, begin, end);
}

void affine_silu(const float* x, float mean, const float* scale, const float* shift, int64_t channels, int64_t begin,
                 int64_t end, float* y) {
  HWY_DYNAMIC_DISPATCH(affine_rows)(x, mean, scale, shift, channels, begin, end, y);
}

}  // namespace orrery::kernels
#endif
