#include "orrery/token_predictor.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <vector>

#include "orrery/error.h"
#include "orrery/frame_predictor.h"

namespace orrery {

TokenPredictor::Context::~Context() = default;
FramePredictor::Context::~Context() = default;

void require_logits_function(const std::string& function, const std::string& class_name) {
  if (function == "logits") return;
  throw Error(ErrorKind::kArgument,
              {.place = "dynamics." + function, .what = "is no function of " + class_name, .expected = "dynamics.logits"});
}

TensorMap TokenPredictor::call(const std::string& function, const TensorMap& inputs, const CallOptions& options) const {
  const c10::InferenceMode inference;
  require_logits_function(function, class_name());
  const at::Tensor tokens = require_input(inputs, "input_ids", "dynamics.logits");
  Conditions conditions;
  if (const auto text = inputs.find("encoder_hidden_states"); text != inputs.end()) conditions.text = text->second;

  const auto context = prepare(conditions);
  const int64_t length = tokens.dim() == 2 ? tokens.size(1) : 0;
  const int64_t step = options.streaming > 0 ? options.streaming : std::max<int64_t>(length, 1);
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < std::max<int64_t>(length, 1); begin += step) {
    const auto part = length > 0 ? tokens.narrow(1, begin, std::min(step, length - begin)) : tokens;
    parts.push_back(logits(part, *context).to(at::kFloat));
  }
  return {{"logits", at::cat(parts, 1).contiguous()}};
}

}  // namespace orrery
