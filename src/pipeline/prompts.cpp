#include "pipeline/prompts.h"

#include "orrery/text.h"
#include "pipeline/stages.h"

namespace orrery::pipeline {

std::vector<at::Tensor> embed_prompts(const Parts& parts, const std::vector<std::string>& prompts, const WorkOptions& work) {
  ProgressMeter meter(work, "text", static_cast<int64_t>(prompts.size()));
  int64_t done = 0;
  return parts.prompt.embed(prompts,
                            [&](const auto& tokenizer, const auto& encoder, const std::string& prompt, int64_t& cut) {
                              const at::Tensor embedded = parts.recipe->embed_prompt(tokenizer, encoder, prompt, cut);
                              meter.tell(++done);
                              return embedded;
                            });
}

}  // namespace orrery::pipeline
