#pragma once

#include <cstdint>
#include <limits>

#ifdef __CUDACC__
#define ORRERY_EVERYWHERE __host__ __device__ inline
#else
#define ORRERY_EVERYWHERE inline
#endif

namespace orrery::kernels {

/// What the elements of an operand are.
enum class Number : int32_t { kFloat32, kBFloat16, kFloat16, kInt8, kFloat8 };

/// The narrow floating-point numbers, as their bits. Laid out as LibTorch's, CUDA's and NumPy's are.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};
/// e4m3 without infinities: four bits of exponent, three of fraction, 0x7F and 0xFF are NaN, 448 is the largest.
struct Float8 {
  uint8_t bits;
};

ORRERY_EVERYWHERE uint32_t bits_of(float value) {
  return __builtin_bit_cast(uint32_t, value);
}
ORRERY_EVERYWHERE float float_of(uint32_t bits) {
  return __builtin_bit_cast(float, bits);
}

ORRERY_EVERYWHERE float to_float(float value) {
  return value;
}
ORRERY_EVERYWHERE float to_float(BFloat16 value) {
  return float_of(static_cast<uint32_t>(value.bits) << 16);
}
ORRERY_EVERYWHERE float to_float(Float16 value) {
  // The bits as a float's are 2^112 too small, subnormals included; infinity and NaN need the largest exponent.
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16, rest = static_cast<uint32_t>(value.bits & 0x7FFF)
                                                                                 << 13;
  if (rest >= 0x0F800000) return float_of(sign | rest | 0x7F800000);
  return float_of(sign | bits_of(float_of(rest) * float_of((127 + 112) << 23)));
}
ORRERY_EVERYWHERE float to_float(Float8 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x80) << 24, rest = value.bits & 0x7F;
  if (rest == 0x7F) return float_of(sign | 0x7FC00000);
  return float_of(sign | bits_of(float_of(rest << 20) * float_of((127 + 120) << 23)));
}

/// The nearest narrow number, ties to even. What is too large becomes infinity; for Float8, which has none, the largest.
template <class T>
ORRERY_EVERYWHERE T from_float(float value);

template <>
ORRERY_EVERYWHERE float from_float<float>(float value) {
  return value;
}
template <>
ORRERY_EVERYWHERE BFloat16 from_float<BFloat16>(float value) {
#ifdef __CUDA_ARCH__
  BFloat16 result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
#else
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return {0x7FFF};
  return {static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)};
#endif
}
template <>
ORRERY_EVERYWHERE Float16 from_float<Float16>(float value) {
#ifdef __CUDA_ARCH__
  Float16 result;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
#else
  const uint32_t bits = bits_of(value), magnitude = bits & 0x7FFFFFFF;
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  if (magnitude > 0x7F800000) return {0x7FFF};
  if (magnitude >= 0x477FF000) return {static_cast<uint16_t>(sign | 0x7C00)};  // 65520 and above round to infinity
  if (magnitude <
      0x38800000) {  // below 2^-14: adding ½ leaves the subnormal's bits, rounded, at the end of the sum's fraction
    const uint32_t sum = bits_of(float_of(magnitude) + 0.5f);
    return {static_cast<uint16_t>(sign | (sum - 0x3F000000))};
  }
  const uint32_t rounded = magnitude + 0x0FFF + ((magnitude >> 13) & 1);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13))};
#endif
}
template <>
ORRERY_EVERYWHERE Float8 from_float<Float8>(float value) {
  const uint32_t bits = bits_of(value), magnitude = bits & 0x7FFFFFFF;
  const auto sign = static_cast<uint8_t>((bits >> 24) & 0x80);
  if (magnitude > 0x7F800000) return {static_cast<uint8_t>(sign | 0x7F)};
  if (magnitude >= 0x43E00000) return {static_cast<uint8_t>(sign | 0x7E)};  // 448, and all above
  if (magnitude < 0x3C800000) {                                             // below 2^-6; the unit of subnormals is 2^-9
    const uint32_t sum = bits_of(float_of(magnitude) + 16384.0f);
    return {static_cast<uint8_t>(sign | (sum - 0x46800000))};
  }
  const uint32_t rounded = magnitude + 0x7FFFF + ((magnitude >> 20) & 1);
  return {static_cast<uint8_t>(sign | ((rounded - 0x3C000000) >> 20))};
}

}  // namespace orrery::kernels
