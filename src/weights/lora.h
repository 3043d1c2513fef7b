#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "orrery/lora.h"
#include "orrery/weights.h"

namespace orrery::weights_detail {

/// `base` with LoRA files merged into it: W + scale · (alpha / r) · B A, summed in float32 over all files when a tensor is
/// read, in the dtype it is stored in (float8: bfloat16). DoRA's rows are then brought to their learned lengths. A tensor that
/// no file touches is read as before, a view of the map.
///
/// A file may name a layer as `base` does or as any of `layouts` (one tool's name → another's) does, with dots or
/// underscores, and behind the prefixes that tools put in front. `component` is the part of the pipeline that `base` is:
/// keys that begin with another part's name are passed over. Throws Error(kWeights) naming the first key that belongs to no
/// layer or has another shape.
std::shared_ptr<const TensorSource> merge_loras(std::shared_ptr<const TensorSource> base, const std::vector<LoraFile>& files,
                                                const std::vector<std::map<std::string, std::string>>& layouts,
                                                const std::string& component);

/// A checkpoint that was saved with peft's adapters still beside their layers ("….base_layer.weight",
/// "….lora_A.default.weight", as cosmos-predict2's post-training does), as the network that they make, under the layers' own
/// names. The file does not tell alpha; it is taken to be the rank, as those trainings set it. A checkpoint without adapters
/// is handed back as it is.
std::shared_ptr<const TensorSource> fold_adapters(std::shared_ptr<const TensorSource> base);

}  // namespace orrery::weights_detail
