#include "kernels/modulated_norm.h"

#include <cmath>

#include "kernels/common/dispatch.h"

namespace orrery::kernels {
namespace {

float modulation_at(const Modulation& m, int64_t group, int64_t column) {
  const float value = m.values[group * m.stride + column];
  return m.addend ? value + m.addend[group * m.addend_stride + column] : value;
}

template <class T>
void norm_rows(const ModulatedNorm& p, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(p.x) + row * p.x_stride;
    T* out = static_cast<T*>(p.out) + row * p.out_stride;
    double sum = 0, squares = 0;
    if (p.centred)
      for (int64_t i = 0; i < p.width; ++i) sum += to_float(x[i]);
    const auto mean = static_cast<float>(sum / static_cast<double>(p.width));
    for (int64_t i = 0; i < p.width; ++i) squares += static_cast<double>(to_float(x[i]) - mean) * (to_float(x[i]) - mean);
    const auto factor = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(p.width) + p.epsilon));
    const int64_t group = row / p.rows_per_group;
    for (int64_t i = 0; i < p.width; ++i) {
      float value = (to_float(x[i]) - mean) * factor;
      if (p.weight) value *= p.weight[i];
      if (p.scale.values) value *= 1.0f + modulation_at(p.scale, group, i);
      if (p.bias) value += p.bias[i];
      if (p.shift.values) value += modulation_at(p.shift, group, i);
      if (p.silu) value /= 1.0f + std::exp(-value);
      out[i] = from_float<T>(value);
    }
  }
}

template <class T>
void add_rows(const GatedResidual& p, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(p.x) + row * p.x_stride;
    const T* residual = static_cast<const T*>(p.residual) + row * p.residual_stride;
    T* out = static_cast<T*>(p.out) + row * p.out_stride;
    for (int64_t i = 0; i < p.width; ++i)
      out[i] = from_float<T>(to_float(residual[i]) + modulation_at(p.gate, row / p.rows_per_group, i) * to_float(x[i]));
  }
}

}  // namespace

void modulated_norm_cpu(const ModulatedNorm& p, int64_t begin, int64_t end) {
  for_float_type(p.type, [&](auto number) { norm_rows<decltype(number)>(p, begin, end); });
}

void gated_residual_cpu(const GatedResidual& p, int64_t begin, int64_t end) {
  for_float_type(p.type, [&](auto number) { add_rows<decltype(number)>(p, begin, end); });
}

}  // namespace orrery::kernels
