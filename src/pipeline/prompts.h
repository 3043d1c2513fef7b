#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "orrery/progress.h"
#include "pipeline/parts.h"

namespace orrery::pipeline {

/// Each prompt as the network takes it, float [1,L,D]. The encoder, often larger than the network, lives only as long as
/// this takes. Throws Error(kArgument) where the checkpoint has none.
std::vector<at::Tensor> embed_prompts(const Parts& parts, const std::vector<std::string>& prompts, const WorkOptions& work);

}  // namespace orrery::pipeline
