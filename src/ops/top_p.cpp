#include "ops/top_p.h"

#include <ATen/ATen.h>

#include <cmath>

#include "kernels/top_p.h"
#include "ops/dispatch.h"

namespace orrery::ops {

at::Tensor top_p(const at::Tensor& logits, double temperature, double top_p, const StepNoise& stream) {
  Operands operands("top_p");
  operands.first("logits", logits, {at::kFloat, at::kBFloat16, at::kHalf})
      .also("logits", logits, logits.scalar_type(), {-1, -1})
      .rows("logits", logits);
  operands.require(logits.size(1) > 0 || logits.size(0) == 0, "logits", "must have a vocabulary", "at least 1 token", "0");
  operands.require(logits.size(1) <= int64_t{1} << 31, "logits", "have more tokens than int32 can count", "2147483648",
                   std::to_string(logits.size(1)));
  operands.require(std::isfinite(temperature) && temperature > 0, "temperature", "must be positive", "a number above 0",
                   std::to_string(temperature));
  operands.require(top_p > 0 && top_p <= 1, "top_p", "must be a part of one", "above 0, at most 1", std::to_string(top_p));
  // On a GPU looking would stop the stream.
  operands.require(!logits.is_cpu() || logits.numel() == 0 || std::isfinite(logits.amax(1).sum(at::kDouble).item<double>()),
                   "logits", "have no finite largest one in a row", "numbers", "NaN or infinity");
  const at::Tensor tokens = at::zeros({logits.size(0)}, logits.options().dtype(at::kInt));
  kernels::TopP p;
  p.type = number_of(logits.scalar_type());
  p.rows = logits.size(0);
  p.vocabulary = logits.size(1);
  p.stride = logits.stride(0);
  p.logits = logits.const_data_ptr();
  p.tokens = tokens.mutable_data_ptr<int32_t>();
  p.temperature = static_cast<float>(temperature);
  p.top_p = static_cast<float>(top_p);
  p.stream = {stream.seed, stream.frame, stream.step};
  if (operands.on_gpu())
    operands.run_on_gpu("orrery_cuda_top_p", p);
  else
    spread(p.rows, 1, [&](int64_t begin, int64_t end) { kernels::top_p_cpu(p, begin, end); });
  return tokens;
}

}  // namespace orrery::ops
