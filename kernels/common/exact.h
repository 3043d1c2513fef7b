#pragma once

#include <cmath>

#include "kernels/common/numbers.h"

// Arithmetic that gives the same bits on every machine: each operation rounded once, none fused with another. A file that
// includes this is compiled with -ffp-contract=off where the compiler would fuse a product and a sum on its own.
namespace orrery::kernels::exact {

#ifdef __CUDA_ARCH__
ORRERY_EVERYWHERE float mul(float a, float b) {
  return __fmul_rn(a, b);
}
ORRERY_EVERYWHERE float add(float a, float b) {
  return __fadd_rn(a, b);
}
ORRERY_EVERYWHERE float sub(float a, float b) {
  return __fsub_rn(a, b);
}
ORRERY_EVERYWHERE double mul(double a, double b) {
  return __dmul_rn(a, b);
}
ORRERY_EVERYWHERE double add(double a, double b) {
  return __dadd_rn(a, b);
}
ORRERY_EVERYWHERE double divide(double a, double b) {
  return __ddiv_rn(a, b);
}
ORRERY_EVERYWHERE double root(double a) {
  return __dsqrt_rn(a);
}
#else
ORRERY_EVERYWHERE float mul(float a, float b) {
  return a * b;
}
ORRERY_EVERYWHERE float add(float a, float b) {
  return a + b;
}
ORRERY_EVERYWHERE float sub(float a, float b) {
  return a - b;
}
ORRERY_EVERYWHERE double mul(double a, double b) {
  return a * b;
}
ORRERY_EVERYWHERE double add(double a, double b) {
  return a + b;
}
ORRERY_EVERYWHERE double divide(double a, double b) {
  return a / b;
}
ORRERY_EVERYWHERE double root(double a) {
  return std::sqrt(a);
}
#endif

/// Coefficients from the highest power down, at `x`.
template <int N>
ORRERY_EVERYWHERE double polynomial(const double (&coefficients)[N], double x) {
  double sum = coefficients[0];
  for (int i = 1; i < N; ++i) sum = add(mul(sum, x), coefficients[i]);
  return sum;
}

/// log(x) for a normal positive double, to about one unit in the last place.
ORRERY_EVERYWHERE double log(double x) {
  uint64_t bits = __builtin_bit_cast(uint64_t, x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  bits = (bits & 0x000FFFFFFFFFFFFFull) | 0x3FF0000000000000ull;
  double m = __builtin_bit_cast(double, bits);
  if (m > 1.4142135623730951) m = mul(m, 0.5), ++exponent;
  // log m = 2 artanh f = 2 f (1 + f²/3 + f⁴/5 + …), |f| < 0.172
  const double f = divide(add(m, -1.0), add(m, 1.0)), square = mul(f, f);
  const double series[] = {1.0 / 23, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                           1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3};
  const double twice = add(f, f), tail = mul(twice, mul(square, polynomial(series, square)));
  const double high = 0x1.62e42fefa38p-1, low = 0x1.ef35793c7673p-45;  // ln 2; `high` times any exponent is exact
  return add(mul(exponent, high), add(twice, add(tail, mul(exponent, low))));
}

/// cos and sin of 2π·turn for 0 ≤ turn ≤ 1, to about one unit in the last place.
ORRERY_EVERYWHERE void cos_sin_of_turn(double turn, double& cosine, double& sine) {
  const int quarter = static_cast<int>(add(mul(turn, 4.0), 0.5));
  const double x = mul(add(mul(turn, 4.0), -static_cast<double>(quarter)), 1.5707963267948966);  // in ±π/4
  const double square = mul(x, x);
  const double of_sine[] = {1.0 / 355687428096000, -1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800,
                            1.0 / 362880,          -1.0 / 5040,          1.0 / 120,        -1.0 / 6};
  const double of_cosine[] = {-1.0 / 6402373705728000,
                              1.0 / 20922789888000,
                              -1.0 / 87178291200,
                              1.0 / 479001600,
                              -1.0 / 3628800,
                              1.0 / 40320,
                              -1.0 / 720,
                              1.0 / 24,
                              -0.5};
  const double s = add(x, mul(x, mul(square, polynomial(of_sine, square))));
  const double c = add(1.0, mul(square, polynomial(of_cosine, square)));
  cosine = (quarter & 1) ? ((quarter & 2) ? s : -s) : ((quarter & 2) ? -c : c);
  sine = (quarter & 1) ? ((quarter & 2) ? -c : c) : ((quarter & 2) ? -s : s);
}

/// e^x as float for x ≤ 0 (0 below −87), to about one unit in the last place of a float.
ORRERY_EVERYWHERE float exp_of_nonpositive(float x) {
  if (!(x > -87.0f)) return 0.0f;
  const double scaled = mul(static_cast<double>(x), 1.4426950408889634);
  const int whole = static_cast<int>(add(scaled, -0.5));  // truncation rounds towards zero, scaled ≤ 0
  const double r = mul(add(scaled, -static_cast<double>(whole)), 0.6931471805599453);
  const double series[] = {1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120,
                           1.0 / 24,      1.0 / 6,      0.5,         1.0,        1.0};
  const double power = __builtin_bit_cast(double, static_cast<uint64_t>(1023 + whole) << 52);
  return static_cast<float>(mul(polynomial(series, r), power));
}

}  // namespace orrery::kernels::exact
