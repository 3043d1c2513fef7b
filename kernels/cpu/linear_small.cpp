#include "kernels/linear_small.h"

// Compiled once for each instruction set; the best that the processor has is chosen when the program runs.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_small.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After foreach_target.
#include "kernels/common/numbers.h"
#include "kernels/cpu/float8-inl.h"

HWY_BEFORE_NAMESPACE();
namespace orrery::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;

HWY_INLINE Vector widened(Floats d, const int8_t* w) {
  const hn::Rebind<int8_t, Floats> narrow;
  const hn::Rebind<int32_t, Floats> wide;
  return hn::ConvertTo(d, hn::PromoteTo(wide, hn::LoadU(narrow, w)));
}

// A bfloat16 is the upper half of a float.
HWY_INLINE Vector widened(Floats d, const uint16_t* w) {
  const hn::Rebind<uint16_t, Floats> narrow;
  const hn::Rebind<uint32_t, Floats> wide;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(wide, hn::LoadU(narrow, w))));
}

HWY_INLINE Vector widened(Floats d, const Float8* w) {
  const hn::Rebind<uint8_t, Floats> narrow;
  const hn::Rebind<uint32_t, Floats> wide;
  return FromFloat8(d, hn::ShiftLeft<24>(hn::PromoteTo(wide, hn::LoadU(narrow, &w->bits))));
}

HWY_INLINE float widened(int8_t w) {
  return static_cast<float>(w);
}
HWY_INLINE float widened(uint16_t w) {
  const uint32_t bits = static_cast<uint32_t>(w) << 16;
  float value;
  hwy::CopyBytes<sizeof value>(&bits, &value);
  return value;
}

HWY_INLINE float widened(Float8 w) {
  return to_float(w);
}

// Asks for what will be read kAhead bytes later, into the second-level cache: its queue of misses is longer than the first
// one's. The processor's own prefetching reaches half of the memory's rate. Behind a row lies the next one; behind the last,
// what is asked for does no harm.
constexpr int64_t kAhead = 4096;
template <typename Weight>
HWY_INLINE void FetchAhead(const Weight* w, int64_t count) {
  const char* const from = reinterpret_cast<const char*>(w) + kAhead;
  for (int64_t byte = 0; byte < count * static_cast<int64_t>(sizeof(Weight)); byte += 64) {
#if HWY_COMPILER_GCC || HWY_COMPILER_CLANG
    __builtin_prefetch(from + byte, /*write=*/0, /*locality=*/2);
#endif
  }
}

// kRows rows of x against kOutputs neighbouring rows of w. For few rows w is read as one stream, which the processor fetches
// ahead best, and several sums hide the latency of the additions; for many, two streams halve what is read of x.
template <int kRows, int kOutputs, typename Weight>
HWY_INLINE void block(const float* HWY_RESTRICT x, int64_t k_size, const Weight* HWY_RESTRICT w, float* HWY_RESTRICT y,
                      int64_t y_stride) {
  constexpr int kSums = kRows == 1 ? 4 : kRows == 2 ? 2 : 1;
  const Floats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  Vector sums[kRows][kOutputs][kSums];
  for (auto& row : sums)
    for (auto& output : row)
      for (auto& sum : output) sum = hn::Zero(d);

  int64_t k = 0;
  for (; k + kSums * lanes <= k_size; k += kSums * lanes) {
    for (int n = 0; n < kOutputs; ++n) FetchAhead(w + n * k_size + k, kSums * lanes);
    for (int s = 0; s < kSums; ++s)
      for (int n = 0; n < kOutputs; ++n) {
        const Vector weights = widened(d, w + n * k_size + k + s * lanes);
        for (int m = 0; m < kRows; ++m)
          sums[m][n][s] = hn::MulAdd(weights, hn::LoadU(d, x + m * k_size + k + s * lanes), sums[m][n][s]);
      }
  }
  for (int m = 0; m < kRows; ++m)
    for (int n = 0; n < kOutputs; ++n) {
      Vector sum = sums[m][n][0];
      for (int s = 1; s < kSums; ++s) sum = hn::Add(sum, sums[m][n][s]);
      float total = hn::GetLane(hn::SumOfLanes(d, sum));
      for (int64_t rest = k; rest < k_size; ++rest) total += x[m * k_size + rest] * widened(w[n * k_size + rest]);
      y[m * y_stride + n] = total;
    }
}

template <int kRows, typename Weight>
void outputs(const float* x, int64_t k_size, const Weight* w, float* y, int64_t y_stride, int64_t begin, int64_t end) {
  constexpr int kOutputs = kRows <= 3 ? 1 : 2;
  int64_t n = begin;
  for (; n + kOutputs <= end; n += kOutputs) block<kRows, kOutputs>(x, k_size, w + n * k_size, y + n, y_stride);
  for (; n < end; ++n) block<kRows, 1>(x, k_size, w + n * k_size, y + n, y_stride);
}

template <typename Weight>
void linear(const float* x, int64_t rows, int64_t k_size, const Weight* w, float* y, int64_t y_stride, int64_t begin,
            int64_t end) {
  switch (rows) {
    case 1: return outputs<1>(x, k_size, w, y, y_stride, begin, end);
    case 2: return outputs<2>(x, k_size, w, y, y_stride, begin, end);
    case 3: return outputs<3>(x, k_size, w, y, y_stride, begin, end);
    case 4: return outputs<4>(x, k_size, w, y, y_stride, begin, end);
    case 5: return outputs<5>(x, k_size, w, y, y_stride, begin, end);
    case 6: return outputs<6>(x, k_size, w, y, y_stride, begin, end);
    case 7: return outputs<7>(x, k_size, w, y, y_stride, begin, end);
    case 8: return outputs<8>(x, k_size, w, y, y_stride, begin, end);
    default: return;
  }
}

void linear_int8(const float* x, int64_t rows, int64_t k_size, const int8_t* w, float* y, int64_t y_stride, int64_t begin,
                 int64_t end) {
  linear(x, rows, k_size, w, y, y_stride, begin, end);
}

void linear_bfloat16(const float* x, int64_t rows, int64_t k_size, const uint16_t* w, float* y, int64_t y_stride,
                     int64_t begin, int64_t end) {
  linear(x, rows, k_size, w, y, y_stride, begin, end);
}

void linear_float8(const float* x, int64_t rows, int64_t k_size, const Float8* w, float* y, int64_t y_stride, int64_t begin,
                   int64_t end) {
  linear(x, rows, k_size, w, y, y_stride, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace orrery::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace orrery::kernels {

HWY_EXPORT(linear_int8);
HWY_EXPORT(linear_bfloat16);
HWY_EXPORT(linear_float8);

void linear_small(const float* x, int64_t rows, int64_t k_size, const int8_t* w, float* y, int64_t y_stride, int64_t begin,
                  int64_t end) {
  HWY_DYNAMIC_DISPATCH(linear_int8)(x, rows, k_size, w, y, y_stride, begin, end);
}

void linear_small(const float* x, int64_t rows, int64_t k_size, const uint16_t* w, float* y, int64_t y_stride, int64_t begin,
                  int64_t end) {
  HWY_DYNAMIC_DISPATCH(linear_bfloat16)(x, rows, k_size, w, y, y_stride, begin, end);
}

void linear_small(const float* x, int64_t rows, int64_t k_size, const Float8* w, float* y, int64_t y_stride, int64_t begin,
                  int64_t end) {
  HWY_DYNAMIC_DISPATCH(linear_float8)(x, rows, k_size, w, y, y_stride, begin, end);
}

}  // namespace orrery::kernels
#endif
