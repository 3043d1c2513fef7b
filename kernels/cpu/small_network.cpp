#include "kernels/small_network.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/small_network.cpp"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// At most 16 numbers, so that a pair of vectors never exceeds a block of columns.
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
constexpr D d;

HWY_INLINE V load_weight(const float* from) {
  return hn::LoadU(d, from);
}
HWY_INLINE V load_weight(const uint16_t* from) {
  const hn::Rebind<hwy::float16_t, D> half;
  return hn::PromoteTo(d, hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(from)));
}

HWY_INLINE void finish(const RowProduct& p, V sum, int64_t column, float* out) {
  sum = hn::Add(sum, hn::LoadU(d, p.bias + column));
  if (p.then == Then::kAddGated) sum = hn::Mul(sum, hn::LoadU(d, p.gate + column));
  if (p.then != Then::kStore) sum = hn::Add(sum, hn::LoadU(d, out + column));
  hn::StoreU(sum, d, out + column);
}

// The last columns, when they are no whole vector.
HWY_INLINE void finish_some(const RowProduct& p, V sum, int64_t column, float* out) {
  alignas(64) float values[16];
  hn::Store(hn::Add(sum, hn::LoadU(d, p.bias + column)), d, values);
  for (int64_t i = 0; column + i < p.columns && i < static_cast<int64_t>(hn::Lanes(d)); ++i) {
    const float value = p.then == Then::kAddGated ? values[i] * p.gate[column + i] : values[i];
    out[column + i] = p.then == Then::kStore ? value : out[column + i] + value;
  }
}

// kRows rows times two vectors of columns, all sums in registers.
template <int kRows, typename Weight>
HWY_INLINE void tile(const RowProduct& p, const Weight* weight, int64_t first, int64_t column) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  V left[kRows], right[kRows];
  for (int r = 0; r < kRows; ++r) left[r] = right[r] = hn::Zero(d);
  for (int64_t tap = 0; tap < p.tap_count; ++tap) {
    const float* rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = p.in + p.rows[first + r] + p.taps[tap];
    const Weight* w = weight + tap * p.depth * kColumns;
    for (int64_t k = 0; k < p.depth; ++k, w += kColumns) {
      const V a = load_weight(w), b = load_weight(w + lanes);
      HWY_UNROLL(16)
      for (int r = 0; r < kRows; ++r) {
        const V x = hn::Set(d, rows[r][k]);
        left[r] = hn::MulAdd(x, a, left[r]);
        right[r] = hn::MulAdd(x, b, right[r]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* out = p.out + p.out_rows[first + r];
    for (int half = 0; half < 2; ++half) {
      const int64_t at = column + half * lanes;
      const V sum = half == 0 ? left[r] : right[r];
      if (at + lanes <= p.columns)
        finish(p, sum, at, out);
      else if (at < p.columns)
        finish_some(p, sum, at, out);
    }
  }
}

template <typename Weight>
void product(const RowProduct& p, const Weight* weight, int64_t begin, int64_t end) {
  constexpr int kRows = HWY_TARGET <= HWY_AVX3 ? 8 : 4;  // as many as there are registers for
  const auto pair = 2 * static_cast<int64_t>(hn::Lanes(d));
  for (int64_t block = begin; block < end; ++block) {
    const Weight* packed = weight + block * p.tap_count * p.depth * kColumns;
    for (int64_t inside = 0; inside < kColumns && block * kColumns + inside < p.columns; inside += pair) {
      int64_t row = 0;
      for (; row + kRows <= p.row_count; row += kRows) tile<kRows>(p, packed + inside, row, block * kColumns + inside);
      for (; row < p.row_count; ++row) tile<1>(p, packed + inside, row, block * kColumns + inside);
    }
  }
}

void row_product(const RowProduct& p, int64_t begin, int64_t end) {
  if (p.half_weight != nullptr)
    product(p, p.half_weight, begin, end);
  else
    product(p, p.weight, begin, end);
}

// Runs `work(offset, vector)` over `count` numbers; a last piece that is no whole vector goes through a buffer.
template <typename Work>
HWY_INLINE void each(const float* x, float* y, int64_t count, Work&& work) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(work(hn::LoadU(d, x + i)), d, y + i);
  if (i == count) return;
  alignas(64) float rest[16] = {};
  std::memcpy(rest, x + i, static_cast<size_t>(count - i) * sizeof(float));
  hn::Store(work(hn::Load(d, rest)), d, rest);
  std::memcpy(y + i, rest, static_cast<size_t>(count - i) * sizeof(float));
}

HWY_INLINE V
sigmoid_times(V x, V steepness) {  // x / (1 + exp(−steepness)); exp overflows beyond 88, where the result has long been zero
  return hn::Div(x, hn::Add(hn::Set(d, 1.f), hn::Exp(d, hn::Min(hn::Neg(steepness), hn::Set(d, 80.f)))));
}
HWY_INLINE V silu_of(V x) {
  return sigmoid_times(x, x);
}

void silu(float* x, int64_t count) {
  each(x, x, count, [](V v) { return silu_of(v); });
}

HWY_INLINE float sum_of(const float* x, int64_t count) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  V sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) sum = hn::Add(sum, hn::LoadU(d, x + i));
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < count; ++i) total += x[i];
  return total;
}

HWY_INLINE float squares_about(const float* x, int64_t count, float mean) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const V centre = hn::Set(d, mean);
  V sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const V off = hn::Sub(hn::LoadU(d, x + i), centre);
    sum = hn::MulAdd(off, off, sum);
  }
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < count; ++i) total += (x[i] - mean) * (x[i] - mean);
  return total;
}

void modulated_norm(const float* x, const float* shift, const float* scale, int64_t rows, int64_t width, float eps,
                    float* y) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
    const float mean = sum_of(x, width) / static_cast<float>(width);
    const float factor = 1 / std::sqrt(squares_about(x, width, mean) / static_cast<float>(width) + eps);
    int64_t i = 0;
    for (; i + lanes <= width; i += lanes) {
      const V normal = hn::Mul(hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean)), hn::Set(d, factor));
      hn::StoreU(hn::MulAdd(normal, hn::Add(hn::LoadU(d, scale + i), hn::Set(d, 1.f)), hn::LoadU(d, shift + i)), d, y + i);
    }
    for (; i < width; ++i) y[i] = (x[i] - mean) * factor * (1 + scale[i]) + shift[i];
  }
}

HWY_INLINE float dot(const float* a, const float* b, int64_t count) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  V sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < count; ++i) total += a[i] * b[i];
  return total;
}

void attend(const float* query, const float* const* keys, const float* const* values, int64_t count, int64_t heads,
            int64_t head_dim, float factor, float* scores, float* out) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t head = 0; head < heads; ++head) {
    const int64_t at = head * head_dim;
    float largest = -HUGE_VALF;
    for (int64_t j = 0; j < count; ++j) {
      scores[j] = factor * dot(query + at, keys[j] + at, head_dim);
      largest = std::max(largest, scores[j]);
    }
    each(scores, scores, count, [&](V v) { return hn::Exp(d, hn::Sub(v, hn::Set(d, largest))); });
    const float whole = 1 / sum_of(scores, count);
    int64_t i = 0;
    for (; i + lanes <= head_dim; i += lanes) {
      V sum = hn::Zero(d);
      for (int64_t j = 0; j < count; ++j)
        sum = hn::MulAdd(hn::Set(d, scores[j] * whole), hn::LoadU(d, values[j] + at + i), sum);
      hn::StoreU(sum, d, out + at + i);
    }
    for (; i < head_dim; ++i) {
      float sum = 0;
      for (int64_t j = 0; j < count; ++j) sum += scores[j] * whole * values[j][at + i];
      out[at + i] = sum;
    }
  }
}

void group_norm_silu(const NormedPicture& picture, const float* x, const float* weight, const float* bias, float* sums,
                     float* y) {
  const auto& [height, width, channels, groups, eps, border] = picture;
  const int64_t pixels = height * width, in_group = channels / groups;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  float *sum = sums, *squares = sums + channels, *scale = sums + 2 * channels, *shift = sums + 3 * channels;
  std::fill(sums, sums + 2 * channels, 0.f);
  const auto over_channels = [&](auto&& vector, auto&& single) {
    int64_t c = 0;
    for (; c + lanes <= channels; c += lanes) vector(c);
    for (; c < channels; ++c) single(c);
  };
  over_channels(
      [&](int64_t c) {
        V total = hn::Zero(d);
        for (int64_t i = 0; i < pixels; ++i) total = hn::Add(total, hn::LoadU(d, x + i * channels + c));
        hn::StoreU(total, d, sum + c);
      },
      [&](int64_t c) {
        for (int64_t i = 0; i < pixels; ++i) sum[c] += x[i * channels + c];
      });
  for (int64_t g = 0; g < groups; ++g) {  // `shift` holds each channel's mean for a moment
    float total = 0;
    for (int64_t c = g * in_group; c < (g + 1) * in_group; ++c) total += sum[c];
    for (int64_t c = g * in_group; c < (g + 1) * in_group; ++c) shift[c] = total / static_cast<float>(in_group * pixels);
  }
  over_channels(
      [&](int64_t c) {
        const V mean = hn::LoadU(d, shift + c);
        V total = hn::Zero(d);
        for (int64_t i = 0; i < pixels; ++i) {
          const V off = hn::Sub(hn::LoadU(d, x + i * channels + c), mean);
          total = hn::MulAdd(off, off, total);
        }
        hn::StoreU(total, d, squares + c);
      },
      [&](int64_t c) {
        for (int64_t i = 0; i < pixels; ++i)
          squares[c] += (x[i * channels + c] - shift[c]) * (x[i * channels + c] - shift[c]);
      });
  for (int64_t g = 0; g < groups; ++g) {
    float total = 0;
    for (int64_t c = g * in_group; c < (g + 1) * in_group; ++c) total += squares[c];
    const float factor = 1 / std::sqrt(total / static_cast<float>(in_group * pixels) + eps);
    for (int64_t c = g * in_group; c < (g + 1) * in_group; ++c) {
      scale[c] = factor * weight[c];
      shift[c] = bias[c] - shift[c] * scale[c];
    }
  }
  for (int64_t row = 0; row < height; ++row)
    for (int64_t column = 0; column < width; ++column) {
      const float* from = x + (row * width + column) * channels;
      float* to = y + ((row + border) * (width + 2 * border) + column + border) * channels;
      over_channels(
          [&](int64_t c) {
            hn::StoreU(silu_of(hn::MulAdd(hn::LoadU(d, from + c), hn::LoadU(d, scale + c), hn::LoadU(d, shift + c))), d,
                       to + c);
          },
          [&](int64_t c) {
            const float value = from[c] * scale[c] + shift[c];
            to[c] = value / (1 + std::exp(-value));
          });
    }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace orrery::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace orrery::kernels {
namespace {

HWY_EXPORT(row_product);
HWY_EXPORT(modulated_norm);
HWY_EXPORT(attend);
HWY_EXPORT(silu);
HWY_EXPORT(group_norm_silu);

float from_half(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                   : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return bits & 0x8000 ? -size : size;
}

}  // namespace

void row_product_plain(const RowProduct& p, int64_t begin, int64_t end) {
  for (int64_t r = 0; r < p.row_count; ++r)
    for (int64_t n = begin * kColumns; n < std::min(p.columns, end * kColumns); ++n) {
      double sum = p.bias[n];
      for (int64_t tap = 0; tap < p.tap_count; ++tap)
        for (int64_t k = 0; k < p.depth; ++k) {
          const int64_t at = ((n / kColumns * p.tap_count + tap) * p.depth + k) * kColumns + n % kColumns;
          sum += static_cast<double>(p.in[p.rows[r] + p.taps[tap] + k]) *
                 (p.half_weight ? from_half(p.half_weight[at]) : p.weight[at]);
        }
      float& out = p.out[p.out_rows[r] + n];
      const auto value = static_cast<float>(p.then == Then::kAddGated ? sum * p.gate[n] : sum);
      out = p.then == Then::kStore ? value : out + value;
    }
}

void row_product(const RowProduct& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(row_product)(p, begin, end);
}
void modulated_norm(const float* x, const float* shift, const float* scale, int64_t rows, int64_t width, float eps,
                    float* y) {
  HWY_DYNAMIC_DISPATCH(modulated_norm)(x, shift, scale, rows, width, eps, y);
}
void attend(const float* query, const float* const* keys, const float* const* values, int64_t count, int64_t heads,
            int64_t head_dim, float factor, float* scores, float* out) {
  HWY_DYNAMIC_DISPATCH(attend)(query, keys, values, count, heads, head_dim, factor, scores, out);
}
void silu(float* x, int64_t count) {
  HWY_DYNAMIC_DISPATCH(silu)(x, count);
}
void group_norm_silu(const NormedPicture& picture, const float* x, const float* weight, const float* bias, float* sums,
                     float* y) {
  HWY_DYNAMIC_DISPATCH(group_norm_silu)(picture, x, weight, bias, sums, y);
}

}  // namespace orrery::kernels
#endif
