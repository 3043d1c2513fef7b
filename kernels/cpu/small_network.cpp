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
#include "kernels/cpu/silu-inl.h"
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

// kRows rows times two vectors of columns of each of kBlocks blocks, all sums in registers.
template <int kRows, int kBlocks, typename Weight>
HWY_INLINE void tile(const RowProduct& p, const Weight* weight, int64_t first, int64_t column) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t block = p.tap_count * p.depth * kColumns;
  V left[kRows][kBlocks], right[kRows][kBlocks];
  for (int r = 0; r < kRows; ++r)
    for (int b = 0; b < kBlocks; ++b) left[r][b] = right[r][b] = hn::Zero(d);
  for (int64_t tap = 0; tap < p.tap_count; ++tap) {
    const float* rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = p.in + p.rows[first + r] + p.taps[tap];
    const Weight* w = weight + tap * p.depth * kColumns;
    for (int64_t k = 0; k < p.depth; ++k, w += kColumns) {
      HWY_UNROLL(4)
      for (int b = 0; b < kBlocks; ++b) {
        const V u = load_weight(w + b * block), v = load_weight(w + b * block + lanes);
        HWY_UNROLL(16)
        for (int r = 0; r < kRows; ++r) {
          const V x = hn::Set(d, rows[r][k]);
          left[r][b] = hn::MulAdd(x, u, left[r][b]);
          right[r][b] = hn::MulAdd(x, v, right[r][b]);
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* out = p.out + p.out_rows[first + r];
    for (int half = 0; half < 2 * kBlocks; ++half) {
      const int64_t at = column + half / 2 * kColumns + half % 2 * lanes;
      const V sum = half % 2 == 0 ? left[r][half / 2] : right[r][half / 2];
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
  constexpr int64_t kBlocks = 4;                         // of a row alone, whose sums would wait for each other
  const auto pair = 2 * static_cast<int64_t>(hn::Lanes(d));
  const int64_t size = p.tap_count * p.depth * kColumns;
  for (int64_t block = begin, count; block < end; block += count) {
    count = p.row_count == 1 && end - block >= kBlocks ? kBlocks : 1;
    const Weight* packed = weight + block * size;
    for (int64_t inside = 0; inside < kColumns && block * kColumns + inside < p.columns; inside += pair) {
      const int64_t column = block * kColumns + inside;
      int64_t row = 0;
      for (; row + kRows <= p.row_count; row += kRows) tile<kRows, 1>(p, packed + inside, row, column);
      for (; row < p.row_count; ++row)
        count > 1 ? tile<1, kBlocks>(p, packed + inside, row, column) : tile<1, 1>(p, packed + inside, row, column);
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

void silu(float* x, int64_t count) {
  each(x, x, count, [](V v) { return SiluOf(d, v); });
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

// softmax
HWY_INLINE void weigh(float* scores, int64_t count) {
  const float largest = *std::max_element(scores, scores + count);
  each(scores, scores, count, [&](V v) { return hn::Exp(d, hn::Sub(v, hn::Set(d, largest))); });
  const float whole = 1 / sum_of(scores, count);
  each(scores, scores, count, [&](V v) { return hn::Mul(v, hn::Set(d, whole)); });
}

// out = Σ weights[j] · values(j)
template <typename Values>
HWY_INLINE void sum_weighed(const float* weights, int64_t count, int64_t size, const Values& values, float* out) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    V sum = hn::Zero(d);
    for (int64_t j = 0; j < count; ++j) sum = hn::MulAdd(hn::Set(d, weights[j]), hn::LoadU(d, values(j) + i), sum);
    hn::StoreU(sum, d, out + i);
  }
  for (; i < size; ++i) {
    float sum = 0;
    for (int64_t j = 0; j < count; ++j) sum += weights[j] * values(j)[i];
    out[i] = sum;
  }
}

void attend(const float* query, const float* const* keys, const float* const* values, int64_t count, int64_t heads,
            int64_t head_dim, float factor, float* scores, float* out) {
  for (int64_t head = 0; head < heads; ++head) {
    const int64_t at = head * head_dim;
    for (int64_t j = 0; j < count; ++j) scores[j] = factor * dot(query + at, keys[j] + at, head_dim);
    weigh(scores, count);
    sum_weighed(
        scores, count, head_dim, [&](int64_t j) { return values[j] + at; }, out + at);
  }
}

void self_attend(const SelfAttention& attention, float* scratch, float* out) {
  const auto& [rows, count, heads, head_dim, factor] = attention;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t width = heads * head_dim, stride = 3 * width, padded = padded_keys(count);
  float *keys = scratch, *scores = scratch + head_dim * padded;
  for (int64_t head = 0; head < heads; ++head) {
    const float *query = rows + head * head_dim, *key = query + width, *value = key + width;
    for (int64_t i = 0; i < head_dim; ++i)  // all keys' i-th numbers beside each other
      for (int64_t j = 0; j < padded; ++j) keys[i * padded + j] = j < count ? factor * key[j * stride + i] : 0;
    for (int64_t row = 0; row < count; ++row, query += stride) {
      for (int64_t j = 0; j < padded; j += lanes) {
        V even = hn::Zero(d), odd = hn::Zero(d);
        int64_t i = 0;
        for (; i + 2 <= head_dim; i += 2) {
          even = hn::MulAdd(hn::Set(d, query[i]), hn::LoadU(d, keys + i * padded + j), even);
          odd = hn::MulAdd(hn::Set(d, query[i + 1]), hn::LoadU(d, keys + (i + 1) * padded + j), odd);
        }
        if (i < head_dim) even = hn::MulAdd(hn::Set(d, query[i]), hn::LoadU(d, keys + i * padded + j), even);
        hn::StoreU(hn::Add(even, odd), d, scores + j);
      }
      weigh(scores, count);
      const auto value_of = [&](int64_t j) { return value + j * stride; };
      sum_weighed(scores, count, head_dim, value_of, out + row * width + head * head_dim);
    }
  }
}

void group_norm(const GroupNorm& norm, const float* x, float* sums, float* scale, float* shift) {
  const auto& [pixels, channels, groups, eps, weight, bias] = norm;
  const int64_t in_group = channels / groups;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  float *sum = sums, *squares = sums + channels;
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
HWY_EXPORT(self_attend);
HWY_EXPORT(silu);
HWY_EXPORT(group_norm);

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
void self_attend(const SelfAttention& attention, float* scratch, float* out) {
  HWY_DYNAMIC_DISPATCH(self_attend)(attention, scratch, out);
}
void silu(float* x, int64_t count) {
  HWY_DYNAMIC_DISPATCH(silu)(x, count);
}
void group_norm(const GroupNorm& norm, const float* x, float* sums, float* scale, float* shift) {
  HWY_DYNAMIC_DISPATCH(group_norm)(norm, x, sums, scale, shift);
}
}  // namespace orrery::kernels
#endif
