#include "kernels/quantized_linear.h"

#include "kernels/common/dispatch.h"

namespace orrery::kernels {
namespace {

float widened(int8_t value) {
  return value;
}
float widened(Float8 value) {
  return to_float(value);
}

template <class T, class W>
void outputs(const QuantizedLinear& p, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    const W* weight = static_cast<const W*>(p.weight) + n * p.in;
    for (int64_t m = 0; m < p.rows; ++m) {
      const T* x = static_cast<const T*>(p.x) + m * p.x_stride;
      double sum = 0;
      for (int64_t k = 0; k < p.in; ++k) sum += static_cast<double>(to_float(x[k])) * widened(weight[k]);
      static_cast<T*>(p.y)[m * p.out + n] = from_float<T>(static_cast<float>(sum * p.scale[n] + (p.bias ? p.bias[n] : 0)));
    }
  }
}

}  // namespace

void quantized_linear_cpu(const QuantizedLinear& p, int64_t begin, int64_t end) {
  for_float_type(p.type, [&](auto number) {
    using T = decltype(number);
    p.weight_type == Number::kInt8 ? outputs<T, int8_t>(p, begin, end) : outputs<T, Float8>(p, begin, end);
  });
}

}  // namespace orrery::kernels
