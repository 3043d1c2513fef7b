#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "orrery/component.h"
#include "orrery/conditions.h"
#include "orrery/export.h"
#include "orrery/latents.h"
#include "orrery/step_cache.h"

namespace orrery {

/// What a diffusion family writes: one look at noisy latents.
class ORRERY_API Denoiser : public Component {
 public:
  /// All that does not depend on the noise: projected text, cross-attention keys and values, rotary tables, masks. Made once
  /// a prompt; used for every step, chunk and fork. A family derives its own.
  struct ORRERY_API Context {
    virtual ~Context();
    /// Lets forward() leave out blocks; null: it never does. What it remembers changes with every look, so a copy of the
    /// context that is looked through at another time must have another.
    std::shared_ptr<StepCache> step_cache;
  };

  /// Computes the context of these conditions for latents of this shape [B,C,t,h,w] (the network's own input channels not
  /// counted in C: masks and known frames are put beside the latents inside). Throws Error(kArgument) naming what is needed
  /// and lacks, or what is given and cannot be used.
  virtual std::unique_ptr<Context> prepare(const Conditions& conditions, at::IntArrayRef shape) const = 0;

  /// prepare() with a step cache of this context's own for `run`; null: none.
  std::unique_ptr<Context> prepare_pass(const Conditions& conditions, at::IntArrayRef shape,
                                        const std::shared_ptr<StepCacheRun>& run) const;

  /// The same prompt with other known frames of the same shape: masks and known latents are replaced, the rest is kept.
  virtual void renew(Context& context, const Conditions& conditions, at::IntArrayRef shape) const = 0;

  /// What the network says of `noisy` [B,C,t,h,w] at `times` float [B,K]: one noise time a sample (K = 1), a latent frame (K
  /// = t) or a token (K = N), in the units its reference's `timestep` has. Same shape as `noisy`.
  virtual Latents forward(const Latents& noisy, const at::Tensor& times, const Context& context) const = 0;

 protected:
  /// Throws Error(kArgument) where a prompt is needed and lacks.
  void require_text(const Conditions& conditions) const;
};

}  // namespace orrery
