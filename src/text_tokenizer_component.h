#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "orrery/component.h"

namespace orrery {

/// Whether a folder is one of a text tokenizer: spiece.model, tokenizer.json, vocab.json, or their configuration alone.
bool is_text_tokenizer(const std::filesystem::path& folder);

/// The text tokenizer of a folder under the names of the contract: "encode" gives `input_ids` and `attention_mask` of
/// CallOptions.texts. Throws what TextTokenizer::open() throws.
std::unique_ptr<Component> load_text_tokenizer(const std::filesystem::path& folder, std::string class_name);

}  // namespace orrery
