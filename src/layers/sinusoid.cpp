#include "layers/sinusoid.h"

#include <ATen/ATen.h>

#include <cmath>

namespace orrery::layers {

at::Tensor sinusoidal_embedding(const at::Tensor& times, int64_t width) {
  const int64_t half = width / 2;
  // float32 throughout, in the reference's order of operations: times reach 1000, where the last bits of an angle show.
  const at::Tensor exponent =
      at::arange(half, times.options().dtype(at::kFloat)) * -std::log(10000.0) / static_cast<double>(half);
  const at::Tensor angles = times.to(at::kFloat).unsqueeze(-1) * exponent.exp();
  return at::cat({angles.cos(), angles.sin()}, -1);
}

}  // namespace orrery::layers
