#include "pipeline/prompts.h"

#include "orrery/error.h"
#include "orrery/log.h"
#include "orrery/text.h"
#include "pipeline/stages.h"

namespace orrery::pipeline {

std::vector<at::Tensor> embed_prompts(const Parts& parts, const std::vector<std::string>& prompts, const WorkOptions& work) {
  if (!parts.text_encoder || !parts.text_tokenizer)
    throw Error(ErrorKind::kArgument, {.place = "prompt",
                                       .what = "cannot be embedded: the checkpoint has no text encoder and tokenizer",
                                       .hint = "give --prompt-embeds"});
  ProgressMeter meter(work, "text", static_cast<int64_t>(prompts.size()));
  const auto tokenizer = TextTokenizer::open(parts.text_tokenizer->path);
  const auto encoder = load_component(*parts.text_encoder, parts.load);
  std::vector<at::Tensor> embedded;
  for (const std::string& prompt : prompts) {
    int64_t cut = 0;
    embedded.push_back(parts.recipe->embed_prompt(*tokenizer, *encoder, prompt, cut));
    if (cut > 0) log(LogLevel::kWarning, "the prompt is too long: its last " + std::to_string(cut) + " tokens were cut off");
    meter.tell(static_cast<int64_t>(embedded.size()));
  }
  return embedded;
}

}  // namespace orrery::pipeline
