#include "orrery/diffusion.h"

#include "orrery/error.h"

namespace orrery {

DiffusionRun::~DiffusionRun() = default;
DiffusionRecipe::~DiffusionRecipe() = default;

at::Tensor DiffusionRecipe::embed_pictures(const Component& image_encoder, const at::Tensor&) const {
  throw Error(ErrorKind::kUnsupported, {.place = "image_encoder (" + image_encoder.class_name() + ")",
                                        .what = "this model's network does not look at pictures through an encoder",
                                        .hint = "leave the part out of model_index.json"});
}

}  // namespace orrery
