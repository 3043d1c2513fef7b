#include "orrery/denoiser.h"

#include "orrery/error.h"

namespace orrery {

Denoiser::Context::~Context() = default;

std::unique_ptr<Denoiser::Context> Denoiser::prepare_pass(const Conditions& conditions, at::IntArrayRef shape,
                                                          const std::shared_ptr<StepCacheRun>& run) const {
  auto context = prepare(conditions, shape);
  if (run) context->step_cache = std::make_shared<StepCache>(run);
  return context;
}

void Denoiser::require_text(const Conditions& conditions) const {
  if (!conditions.text.defined())
    throw Error(ErrorKind::kArgument, {.place = class_name(),
                                       .what = "needs text embeddings",
                                       .expected = "conditions.text float [B,L,D]",
                                       .got = "none",
                                       .hint = "give a prompt, or embeddings from a file"});
}

}  // namespace orrery
