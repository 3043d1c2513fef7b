#include "orrery/diffusion.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>

#include "orrery/error.h"
#include "orrery/work_bytes.h"

namespace orrery {

at::Tensor guide(const at::Tensor& c, const at::Tensor& u, double scale, GuidanceForm form) {
  return form == GuidanceForm::kFromNegative ? at::lerp(u, c, scale) : c + (c - u) * scale;
}

Conditions negative_conditions(const DiffusionInputs& inputs) {
  if (!inputs.negative_text.defined())
    throw Error(ErrorKind::kArgument, {.place = "guidance_scale",
                                       .what = "needs a negative prompt to be guided away from",
                                       .hint = "give negative prompt embeddings, or guidance scale 1"});
  Conditions conditions = inputs.conditions;
  conditions.text = inputs.negative_text;
  conditions.text_mask = inputs.negative_text_mask;
  return conditions;
}

void check_multiple(int64_t height, int64_t width, int64_t unit) {
  if (height % unit == 0 && width % unit == 0) return;
  const auto size = [&](int64_t add) {
    const auto fit = [&](int64_t side) { return std::to_string(std::max((side + add) / unit, int64_t{1}) * unit); };
    return fit(width) + "x" + fit(height);
  };
  throw Error(ErrorKind::kArgument, {.place = "size",
                                     .what = "does not fit the network",
                                     .expected = "width and height that are multiples of " + std::to_string(unit),
                                     .got = std::to_string(width) + "x" + std::to_string(height),
                                     .hint = "the nearest are " + size(0) + " and " + size(unit - 1)});
}

TellsWorkBytes::~TellsWorkBytes() = default;
DiffusionRun::~DiffusionRun() = default;
DiffusionRecipe::~DiffusionRecipe() = default;

at::Tensor DiffusionRecipe::embed_pictures(const Component& image_encoder, const at::Tensor&) const {
  throw Error(ErrorKind::kUnsupported, {.place = "image_encoder (" + image_encoder.class_name() + ")",
                                        .what = "this model's network does not look at pictures through an encoder",
                                        .hint = "leave the part out of model_index.json"});
}

}  // namespace orrery
