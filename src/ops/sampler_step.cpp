#include "ops/sampler_step.h"

#include <ATen/ATen.h>

#include "kernels/sampler_step.h"
#include "ops/dispatch.h"

namespace orrery::ops {

at::Tensor sampler_step(const at::Tensor& sample, const at::Tensor& output, const at::Tensor& negative,
                        const StepWeights& weights, const StepNoise& noise) {
  Operands operands("sampler_step");
  operands.first("sample", sample, {at::kFloat}).also("sample", sample, at::kFloat, {-1, -1, -1, -1, -1});
  operands.contiguous("sample", sample).require(output.defined(), "output", "is missing", "a tensor", "none");
  const at::ScalarType type = output.scalar_type();
  const bool known = type == at::kFloat || type == at::kBFloat16 || type == at::kHalf;
  operands.require(known, "output", "has a dtype that the op has no kernel for", "Float, BFloat16 or Half",
                   at::toString(type));
  operands.also("output", output, type, sample.sizes().vec()).contiguous("output", output);
  if (negative.defined()) operands.also("negative", negative, type, sample.sizes().vec()).contiguous("negative", negative);

  const at::Tensor out = at::empty_like(sample);
  kernels::SamplerStep p;
  p.type = number_of(type);
  p.from_negative = weights.from_negative;
  p.guidance = weights.guidance;
  p.of_sample = weights.of_sample;
  p.of_output = weights.of_output;
  p.of_noise = weights.of_noise;
  p.channels = sample.size(0) * sample.size(1);
  p.frames = sample.size(2);
  p.area = sample.size(3) * sample.size(4);
  p.sample = sample.const_data_ptr<float>();
  p.output = output.const_data_ptr();
  p.negative = negative.defined() ? negative.const_data_ptr() : nullptr;
  p.out = out.mutable_data_ptr<float>();
  p.stream = {noise.seed, noise.frame, noise.step};
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_sampler_step", p);
  else
    spread(p.frames * kernels::groups_of_frame(p), 4096,
           [&](int64_t begin, int64_t end) { kernels::sampler_step_cpu(p, begin, end); });
  return out;
}

void fill_with_noise(const at::Tensor& values, const StepNoise& noise) {
  Operands operands("fill_with_noise");
  operands.first("values", values, {at::kFloat}).contiguous("values", values);
  operands.require(values.is_cpu(), "values", "must be on the CPU", "cpu", values.device().str());
  const int64_t count = values.numel();
  spread((count + 3) / 4, 4096, [&](int64_t begin, int64_t end) {
    kernels::normal_noise_cpu({noise.seed, noise.frame, noise.step}, values.mutable_data_ptr<float>(), 4 * begin,
                              std::min(4 * end, count));
  });
}

}  // namespace orrery::ops
