// What an interactive world is begun with beside pictures.
#pragma once

#include <filesystem>
#include <string>

#include "orrery/world.h"

namespace program {

/// The words, and of a .safetensors file (none where `path` is empty) `prompt_embeds`, `image_embeds`, `state` and
/// `actions`. Throws Error(kArgument) on a tensor of another name.
orrery::WorldPrompt read_prompt(const std::filesystem::path& path, std::string text = {});

}  // namespace program
