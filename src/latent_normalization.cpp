#include <ATen/ATen.h>

#include "orrery/autoencoder.h"
#include "orrery/error.h"

namespace orrery {
namespace {

// [C] or [C, frames] as [1,C,1 or t,1,1], so that it broadcasts over latents [B,C,t,h,w].
at::Tensor over_latents(const at::Tensor& given, const at::Tensor& latent, int64_t first_frame) {
  const at::Tensor values = given.to(latent.device());
  if (values.dim() == 1) return values.view({1, -1, 1, 1, 1});
  const int64_t frames = latent.size(2);
  if (first_frame + frames > values.size(1))
    throw Error(ErrorKind::kArgument, {.place = "latents",
                                       .what = "reach past the window for which the tokenizer has means and deviations",
                                       .expected = "at most " + std::to_string(values.size(1)) + " latent frames",
                                       .got = std::to_string(first_frame + frames),
                                       .hint = "code the clip in windows"});
  return values.narrow(1, first_frame, frames).view({1, values.size(0), frames, 1, 1});
}

}  // namespace

at::Tensor LatentNormalization::apply(const at::Tensor& latent, int64_t first_frame) const {
  if (!mean.defined()) return scale == 1 ? latent : latent * scale;
  return (latent - over_latents(mean, latent, first_frame)) / over_latents(std, latent, first_frame) * scale;
}

at::Tensor LatentNormalization::undo(const at::Tensor& latent, int64_t first_frame) const {
  const at::Tensor unscaled = scale == 1 ? latent : latent / scale;
  if (!mean.defined()) return unscaled;
  return unscaled * over_latents(std, latent, first_frame) + over_latents(mean, latent, first_frame);
}

}  // namespace orrery
