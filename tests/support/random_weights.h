#pragma once

#include <string>

#include "orrery/config.h"
#include "orrery/weights.h"

namespace orrery::testing {

/// Random weights of a class in bfloat16, whatever tensors its builder asks for under this config; `given` are there before,
/// for builders that read sizes off them.
TensorMap random_weights(const std::string& class_name, const Config& config, TensorMap given = {});

}  // namespace orrery::testing
