#pragma once

#include <filesystem>
#include <string>

namespace orrery {

/// A file of low-rank changes that is merged into a network's weights while they are loaded: peft, diffusers, kohya or an
/// original repository's, in .safetensors or .pt, or a peft folder (adapter_config.json beside the weights).
struct LoraFile {
  std::filesystem::path path;
  double scale = 1;       ///< how much it counts; may be negative
  std::string component;  ///< "transformer_2", …: the only part of a pipeline it changes; empty: every denoising network
};

}  // namespace orrery
