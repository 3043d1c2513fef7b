#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orrery/lora.h"
#include "orrery/weights.h"

namespace orrery::weights_detail {

/// What a LoRA file says of one layer, as the names of its tensors in `source`; empty where it says nothing.
struct LoraEntry {
  std::string module;      ///< the layer's name as the file writes it, without the suffix
  std::string down, up;    ///< [r, in, …] and [out, r, …]
  std::string diff, bias;  ///< a whole change of the weight; of the bias
  std::string alpha;       ///< one number: the product counts alpha / r
  std::string magnitude;   ///< DoRA: [out], the length that each row has once the product is added
  std::string first;       ///< the first key of the entry, for messages
};

/// A LoRA file, opened: entries by layer, and the scale that its own metadata gives them.
struct LoraContents {
  std::shared_ptr<const TensorSource> source;
  std::vector<LoraEntry> entries;

  /// alpha / r of an entry (alpha / √r where the file says so); 1 where nothing tells alpha.
  double scale_of(const LoraEntry& entry) const;

  /// alpha and rank as adapter_config.json or the safetensors metadata tell them.
  struct Settings {
    std::optional<double> alpha;
    std::map<std::string, double> alpha_pattern;
    bool rank_stabilised = false;
  } settings;
};

/// Reads names, shapes and settings. Throws Error(kWeights) naming a key that is no part of a LoRA or lacks its counterpart,
/// Error(kUnsupported) naming one of a kind that cannot be merged (LoHa, LoKr, LoCon's middle).
LoraContents open_lora(const std::filesystem::path& path);

}  // namespace orrery::weights_detail
