#pragma once

#include <memory>

#include "orrery/diffusion.h"

namespace orrery::models {

/// Wan 2.1 and 2.2: rectified flow; one network or two by noise level; text, first picture, first and last picture
/// (WanPipeline, WanImageToVideoPipeline).
std::unique_ptr<DiffusionRecipe> build_wan_recipe(const DiffusionParts& parts);

/// The causal network as a text-to-video stream: block after block, each in a few steps.
std::unique_ptr<DiffusionRecipe> build_causal_wan_recipe(const DiffusionParts& parts);

}  // namespace orrery::models
