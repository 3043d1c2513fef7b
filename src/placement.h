#pragma once

#include <ATen/core/Tensor.h>

#include "orrery/conditions.h"
#include "orrery/latents.h"
#include "orrery/pipeline.h"

// What a caller gives goes to where a model was loaded, once, and what it gets back comes to the processor, once.
namespace orrery {

/// On that device; what is undefined stays so.
inline at::Tensor placed(const at::Tensor& tensor, at::Device device) {
  return tensor.defined() ? tensor.to(device) : tensor;
}
Conditions placed(Conditions conditions, at::Device device);
/// Actions, and the pictures that a picture encoder looks at (`picture`, `last_picture`), come to the processor, which
/// checks and prepares them.
GenerateOptions placed(GenerateOptions options, at::Device device);
Generated placed(Generated generated, at::Device device);

}  // namespace orrery
