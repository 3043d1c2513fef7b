#pragma once

#include <memory>
#include <optional>
#include <string>

#include "orrery/component.h"
#include "orrery/load.h"
#include "orrery/token_predictor.h"

namespace orrery::pipeline {

/// The part of a model whose class has that role in the table of classes; null where there is none.
const ComponentDescription* part_with_role(const ModelDescription& model, const std::string& role);

/// The video tokenizer of a network of tokens, whose published checkpoints hold the network alone: what `given` names, else
/// a part of the model, else what lies in its folder or beside it under a name of `rules`. Throws Error(kConfig) saying
/// where it should be.
ComponentDescription find_video_tokenizer(const ModelDescription& model, const TokenVideoRules& rules,
                                          const std::string& given, const WorkOptions& work);

/// The text encoder and the tokenizer of its words: parts of the model, else a folder of `rules` that holds both. Undefined
/// where there are none.
struct TextParts {
  std::optional<ComponentDescription> encoder, tokenizer;
};
TextParts find_text_parts(const ModelDescription& model, const TokenVideoRules& rules, const WorkOptions& work);

/// A part, loaded as what its class is and whatever the model calls it.
std::shared_ptr<const Component> load_part(ComponentDescription part, const LoadOptions& options);

}  // namespace orrery::pipeline
