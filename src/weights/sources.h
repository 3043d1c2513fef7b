#pragma once

#include <filesystem>
#include <memory>

#include "orrery/weights.h"
#include "weights/file.h"

namespace orrery::weights_detail {

/// A tensor over bytes of the map, which it keeps alive; a copy where the bytes are not aligned to the element size.
at::Tensor tensor_in_map(const std::shared_ptr<const FileMap>& map, uint64_t begin, at::IntArrayRef shape,
                         at::ScalarType dtype);

/// One .safetensors file.
std::shared_ptr<const TensorSource> open_safetensors(const std::filesystem::path& path);
/// What torch.save or torch.jit.save wrote, in its zip, legacy or tar form.
std::shared_ptr<const TensorSource> open_torch(const std::filesystem::path& path);
/// Shards behind a *.safetensors.index.json.
std::shared_ptr<const TensorSource> open_sharded(const std::filesystem::path& index);
/// Shards "…-00001-of-00003.safetensors" in a folder without an index; null where there are none or an index is there. Throws
/// Error(kWeights) where one is missing or two hold the same tensor.
std::shared_ptr<const TensorSource> open_unindexed_shards(const std::filesystem::path& folder);
/// Any single file, told apart by its content.
std::shared_ptr<const TensorSource> open_file(const std::filesystem::path& path);
/// A file, or a component folder by its usual names.
std::shared_ptr<const TensorSource> open_place(const std::filesystem::path& path);
/// The weights file of a component folder, under its usual names.
std::filesystem::path find_weights(const std::filesystem::path& folder);
/// A folder with one tokenizer in two files, *encoder and *decoder, as one source; null where the folder holds no such pair.
std::shared_ptr<const TensorSource> open_halves(const std::filesystem::path& folder);
/// Tensors in memory.
std::shared_ptr<const TensorSource> in_memory(TensorMap tensors, std::string place);

}  // namespace orrery::weights_detail
