#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "models/registry.h"
#include "models/wan/wan_vae_config.h"
#include "orrery/component.h"
#include "orrery/config.h"
#include "orrery/weights.h"

// What the registry needs of this family.
namespace orrery::models {

/// AutoencoderKLWan from its config and weights; the config's `_dialect` "original" says that the names are the original's.
std::unique_ptr<Component> build_autoencoder_kl_wan(const Config& config, const Weights& weights);

/// Recognises a Wan VAE (2.1 or 2.2, original or diffusers names) by its tensors and reads its sizes off them.
std::optional<Config> describe_wan_vae(const Weights& weights);

/// Recognises a folder as Wan-Video publishes it, and names its parts as a pipeline's.
std::optional<ModelDescription> describe_wan_folder(const std::filesystem::path& folder, RecogniseFile recognise);

/// diffusers name → original name of every tensor of a VAE of this shape.
std::map<std::string, std::string> original_wan_vae_names(const WanVaeConfig& config);

}  // namespace orrery::models
