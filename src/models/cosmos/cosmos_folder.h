#pragma once

#include <filesystem>
#include <optional>

#include "models/registry.h"

namespace orrery::models {

/// Recognises a folder as the original repositories keep it (checkpoints/…/model.pt), and names its parts as a pipeline's:
/// the network, the video tokenizer in it or beside it, and T5-11B where it lies in the same tree. Nothing where the folder
/// holds no such network or no tokenizer can be found.
std::optional<ModelDescription> describe_cosmos_folder(const std::filesystem::path& folder, RecogniseFile recognise);

}  // namespace orrery::models
