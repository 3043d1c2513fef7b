#include "orrery/denoiser.h"

#include "orrery/error.h"

namespace orrery {

Denoiser::Context::~Context() = default;

void Denoiser::require_text(const Conditions& conditions) const {
  if (!conditions.text.defined())
    throw Error(ErrorKind::kArgument, {.place = class_name(),
                                       .what = "needs text embeddings",
                                       .expected = "conditions.text float [B,L,D]",
                                       .got = "none",
                                       .hint = "give a prompt, or embeddings from a file"});
}

}  // namespace orrery
