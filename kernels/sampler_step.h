#pragma once

#include <cstdint>

#include "kernels/common/numbers.h"
#include "kernels/common/philox.h"

namespace orrery::kernels {

/// One step of a sampler over latents [B·C, t, h·w], in one pass:
/// out = of_sample · sample + of_output · guided + of_noise · noise, guided = output, or from + guidance · (output −
/// negative), from = output or negative. Noise is that of `stream` for frame stream.frame + f, counted over [B·C, h·w].
struct SamplerStep {
  Number type = Number::kFloat32;  ///< of output and negative; sample and out are float32
  bool from_negative = true;
  float guidance = 1, of_sample = 1, of_output = 0, of_noise = 0;
  int64_t channels = 0, frames = 0, area = 0;  ///< B·C, t, h·w
  const float* sample = nullptr;
  const void* output = nullptr;
  const void* negative = nullptr;  ///< null: no guidance
  float* out = nullptr;            ///< may be sample
  NoiseStream stream{};
};

/// How many groups of four successive numbers a frame has; the last may be short. Kernels count their work in these.
ORRERY_EVERYWHERE int64_t groups_of_frame(const SamplerStep& p) {
  return (p.channels * p.area + 3) / 4;
}

/// Group `group` of frame `frame`: the body of both kernels, so that they agree to the last bit.
template <class T>
ORRERY_EVERYWHERE void step_group(const SamplerStep& p, int64_t frame, int64_t group) {
  float noise[4] = {};
  if (p.of_noise != 0)
    four_normals({p.stream.seed, p.stream.frame + static_cast<uint32_t>(frame), p.stream.step}, static_cast<uint64_t>(group),
                 noise);
  for (int i = 0; i < 4; ++i) {
    const int64_t element = 4 * group + i;
    if (element >= p.channels * p.area) return;
    const int64_t channel = element / p.area;
    const int64_t at = (channel * p.frames + frame) * p.area + (element - channel * p.area);
    float guided = to_float(static_cast<const T*>(p.output)[at]);
    if (p.negative) {
      const float negative = to_float(static_cast<const T*>(p.negative)[at]);
      const float away = exact::mul(p.guidance, exact::sub(guided, negative));
      guided = exact::add(p.from_negative ? negative : guided, away);
    }
    float sum = exact::add(exact::mul(p.of_sample, p.sample[at]), exact::mul(p.of_output, guided));
    if (p.of_noise != 0) sum = exact::add(sum, exact::mul(p.of_noise, noise[i]));
    p.out[at] = sum;
  }
}

/// Groups [begin, end) of all frames, frame by frame, on the CPU.
void sampler_step_cpu(const SamplerStep& p, int64_t begin, int64_t end);
/// Numbers [begin, end) of a stream on the CPU; `begin` is a multiple of 4.
void normal_noise_cpu(const NoiseStream& stream, float* values, int64_t begin, int64_t end);

}  // namespace orrery::kernels

/// On the GPU; the CUDA error, 0 if there is none.
extern "C" int orrery_cuda_sampler_step(const orrery::kernels::SamplerStep* p, void* stream);
