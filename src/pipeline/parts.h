#pragma once

#include <memory>
#include <optional>
#include <string>

#include "models/registry.h"
#include "orrery/config.h"
#include "orrery/diffusion.h"
#include "orrery/load.h"
#include "orrery/text.h"

namespace orrery::pipeline {

/// The loaded parts of a diffusion world, and those that are loaded when a prompt comes.
struct Parts {
  Config scheduler;
  std::string class_name;
  std::shared_ptr<const Autoencoder> autoencoder;
  std::unique_ptr<DiffusionRecipe> recipe;
  PromptParts prompt;
  std::optional<ComponentDescription> image_encoder;  // loaded when a picture comes
  Config image_processor;
  LoadOptions load;
  Compat published = Compat::kDiffusers;  ///< what the layout of the checkpoint says

  /// The numbers to run with.
  const models::Preset& preset(Compat compat, const std::string& name) const {
    return models::preset_of(recipe->form(), compat == Compat::kAsPublished ? published : compat, name);
  }
};

}  // namespace orrery::pipeline
