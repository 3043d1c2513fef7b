#include "kernels/head_norm.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/head_norm.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, 16>;
using Vector = hn::Vec<Floats>;
constexpr int64_t kLanes = hn::MaxLanes(Floats());

float InverseRms(const float* x, int64_t count, float epsilon) {
  const Floats d;
  Vector sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vector value = hn::LoadU(d, x + i);
    sum = hn::MulAdd(value, value, sum);
  }
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < count; ++i) total += x[i] * x[i];
  return 1.0f / std::sqrt(total / static_cast<float>(count) + epsilon);
}

// One head: x · scale · weight, turned. Where there is no turn, cos is null; where no norm, weight is null.
void OneHead(const HeadNorm& norm, const float* x, float* out, float scale, const float* weight, const float* cos,
             const float* sin) {
  const Floats d;
  const int64_t half = norm.dim / 2;
  const Vector factor = hn::Set(d, scale);
  const auto scaled = [&](Vector value, Vector by) { return hn::Mul(hn::Mul(value, factor), by); };
  int64_t i = 0;
  if (!cos) {
    for (; i + kLanes <= norm.dim; i += kLanes)
      hn::StoreU(scaled(hn::LoadU(d, x + i), weight ? hn::LoadU(d, weight + i) : hn::Set(d, 1.0f)), d, out + i);
    for (; i < norm.dim; ++i) out[i] = x[i] * scale * (weight ? weight[i] : 1.0f);
    return;
  }
  for (; i + kLanes <= half; i += kLanes) {
    Vector a, b, wa = hn::Set(d, 1.0f), wb = wa;
    if (norm.neighbours) {
      hn::LoadInterleaved2(d, x + 2 * i, a, b);
      if (weight) hn::LoadInterleaved2(d, weight + 2 * i, wa, wb);
    } else {
      a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + half + i);
      if (weight) wa = hn::LoadU(d, weight + i), wb = hn::LoadU(d, weight + half + i);
    }
    a = scaled(a, wa), b = scaled(b, wb);
    const Vector c = hn::LoadU(d, cos + i), s = hn::LoadU(d, sin + i);
    const Vector left = hn::NegMulAdd(b, s, hn::Mul(a, c)), right = hn::MulAdd(b, c, hn::Mul(a, s));
    if (norm.neighbours) {
      hn::StoreInterleaved2(left, right, d, out + 2 * i);
    } else {
      hn::StoreU(left, d, out + i);
      hn::StoreU(right, d, out + half + i);
    }
  }
  for (; i < half; ++i) {
    const int64_t first = norm.neighbours ? 2 * i : i, second = norm.neighbours ? 2 * i + 1 : half + i;
    const float a = x[first] * scale * (weight ? weight[first] : 1.0f),
                b = x[second] * scale * (weight ? weight[second] : 1.0f);
    out[first] = a * cos[i] - b * sin[i];
    out[second] = b * cos[i] + a * sin[i];
  }
}

void Rows(const HeadNorm& norm, int64_t first, int64_t last) {
  const int64_t width = norm.heads * norm.dim, half = norm.dim / 2;
  for (int64_t row = first; row < last; ++row) {
    const float* x = norm.x + row * width;
    float* out = norm.out + row * width;
    const int64_t token = row % norm.tokens;
    float scale = norm.weight && !norm.per_head ? InverseRms(x, width, norm.epsilon) : 1.0f;
    for (int64_t head = 0; head < norm.heads; ++head) {
      const float* from = x + head * norm.dim;
      if (norm.weight && norm.per_head) scale = InverseRms(from, norm.dim, norm.epsilon);
      const float* weight = norm.weight && !norm.per_head ? norm.weight + head * norm.dim : norm.weight;
      OneHead(norm, from, out + head * norm.dim, scale, weight, norm.cos ? norm.cos + token * half : nullptr,
              norm.cos ? norm.sin + token * half : nullptr);
    }
  }
}

// As x / (1 + exp(−2u)), which is the same and takes one exponential.
void GeluTanh(float* x, int64_t count) {
  const Floats d;
  const float kOuter = -2.0f * 0.7978845608028654f, kInner = kOuter * 0.044715f, kMost = 88.0f;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vector value = hn::LoadU(d, x + i), square = hn::Mul(value, value);
    const Vector exponent = hn::Mul(value, hn::MulAdd(square, hn::Set(d, kInner), hn::Set(d, kOuter)));
    // Behind 88 the exponential overflows, and what it divides is nothing.
    const auto nothing = hn::Gt(exponent, hn::Set(d, kMost));
    const Vector result = hn::Div(value, hn::Add(hn::Set(d, 1.0f), hn::Exp(d, hn::Min(exponent, hn::Set(d, kMost)))));
    hn::StoreU(hn::IfThenZeroElse(nothing, result), d, x + i);
  }
  for (; i < count; ++i) {
    const float exponent = x[i] * (x[i] * x[i] * kInner + kOuter);
    x[i] = exponent > kMost ? 0.0f : x[i] / (1.0f + std::exp(exponent));
  }
}

}  // namespace
}  // namespace orrery::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace orrery::kernels {

HWY_EXPORT(Rows);
HWY_EXPORT(GeluTanh);

void head_norm(const HeadNorm& norm, int64_t first, int64_t last) {
  HWY_DYNAMIC_DISPATCH(Rows)(norm, first, last);
}
void gelu_tanh(float* x, int64_t count) {
  HWY_DYNAMIC_DISPATCH(GeluTanh)(x, count);
}

}  // namespace orrery::kernels
#endif
