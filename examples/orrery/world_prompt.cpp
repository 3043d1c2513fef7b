#include "world_prompt.h"

#include <ATen/core/Tensor.h>

#include <utility>

#include "orrery/error.h"
#include "orrery/weights.h"

namespace program {

orrery::WorldPrompt read_prompt(const std::filesystem::path& path, std::string text) {
  orrery::WorldPrompt prompt;
  prompt.text = std::move(text);
  if (path.empty()) return prompt;
  for (auto& [name, tensor] : orrery::load_safetensors(path)) {
    if (name == "prompt_embeds")
      prompt.conditions.text = tensor;
    else if (name == "image_embeds")
      prompt.conditions.image = tensor;
    else if (name == "state")
      prompt.conditions.known = tensor.transpose(1, 2).unsqueeze(-1).unsqueeze(-1);  // a latent frame of one place
    else if (name == "actions")
      prompt.conditions.actions = tensor;
    else
      throw orrery::Error(orrery::ErrorKind::kArgument, {.place = path.string(),
                                                         .what = "holds a tensor that means nothing here",
                                                         .expected = "prompt_embeds, image_embeds, state, actions",
                                                         .got = name});
  }
  return prompt;
}

}  // namespace program
