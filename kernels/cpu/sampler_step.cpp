#include "kernels/sampler_step.h"

#include "kernels/common/dispatch.h"

namespace orrery::kernels {

void sampler_step_cpu(const SamplerStep& p, int64_t begin, int64_t end) {
  const int64_t groups = groups_of_frame(p);
  for_float_type(p.type, [&](auto number) {
    for (int64_t i = begin; i < end; ++i) step_group<decltype(number)>(p, i / groups, i % groups);
  });
}

void normal_noise_cpu(const NoiseStream& stream, float* values, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i += 4) {
    float four[4];
    four_normals(stream, static_cast<uint64_t>(i / 4), four);
    for (int64_t k = 0; k < 4 && i + k < end; ++k) values[i + k] = four[k];
  }
}

}  // namespace orrery::kernels
