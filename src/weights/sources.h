#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

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
/// Shards "…-00001-of-00003.safetensors" in a folder without an index; null where there are none or an index is there.
/// Throws Error(kWeights) where one is missing or two hold the same tensor.
std::shared_ptr<const TensorSource> open_unindexed_shards(const std::filesystem::path& folder);
/// Any single file, told apart by its content.
std::shared_ptr<const TensorSource> open_file(const std::filesystem::path& path);
/// A file, or a component folder by its usual names.
std::shared_ptr<const TensorSource> open_place(const std::filesystem::path& path);
/// The weights file of a component folder, under its usual names.
std::filesystem::path find_weights(const std::filesystem::path& folder);
/// A folder with one tokenizer in two files, *encoder and *decoder, as one source; null where the folder holds no such pair.
std::shared_ptr<const TensorSource> open_halves(const std::filesystem::path& folder);
/// The tensor beside a float8 "X.weight" that it must be multiplied by, "X.scale_weight" or "X.weight_scale"; empty where
/// there is none. "X.weight_scale_inv" is answered too: scales of blocks, which fit nothing here.
std::string scale_beside(const std::map<std::string, TensorInfo>& infos, const std::string& name);
/// The weight times its scale, of one number or one for each row, in place.
at::Tensor scaled(at::Tensor weight, const at::Tensor& scale);
/// Whether a name is one of those, the mark that they are there, or the scale of 8-bit inputs, which are not rounded here.
bool belongs_to_float8(std::string_view name);
/// Tensors in memory.
std::shared_ptr<const TensorSource> in_memory(TensorMap tensors, std::string place);

}  // namespace orrery::weights_detail
