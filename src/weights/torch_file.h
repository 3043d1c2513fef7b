#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "weights/dtypes.h"
#include "weights/pickle.h"
#include "weights/zip.h"

namespace orrery::weights_detail {

/// A tensor as torch stores it: a strided window on a run of bytes that others may share.
struct StoredTensor {
  c10::ScalarType dtype = c10::ScalarType::Float;
  std::vector<int64_t> shape, strides;
  int64_t offset = 0;  ///< elements from the start of the extent
  Extent storage;
};
using StoredTensors = std::map<std::string, StoredTensor>;

/// One storage as a pickle refers to it.
struct StorageRequest {
  std::string key;
  int64_t elements = 0;
  std::optional<c10::ScalarType> dtype;  ///< empty for untyped storages
};
/// Where the bytes of a storage are; empty when the file does not hold them.
using LocateStorage = std::function<std::optional<Extent>(const StorageRequest&)>;

/// Reads the tensors that a pickled value describes and names them by their path in it ("encoder.conv.weight"; a lone tensor
/// is "tensor", list items are "0", "1", …). Descends into {"state_dict": …} and the like, leaves out optimizers, schedulers
/// and averaged copies beside a model, and goes through modules saved whole. `known` are tensors that the pickle refers to
/// by id (the tar form). What was left out is appended to `skipped`.
StoredTensors collect_tensors(const Pickle& pickle, const LocateStorage& locate,
                              const std::map<std::string, StoredTensor>& known, const std::string& place,
                              std::vector<std::string>& skipped);

/// The type behind torch.FloatStorage, torch.cuda.HalfStorage, torch.float32, …; empty for UntypedStorage and what is
/// unknown.
std::optional<c10::ScalarType> dtype_of_torch(std::string_view name);
/// Throws Error(kWeights) unless every element of the tensor lies within `elements` of its storage, and that within its
/// extent.
void check_bounds(const StoredTensor& tensor, int64_t elements, const std::string& place);

/// Whether the bytes begin like a file that torch.save or torch.jit.save wrote, in any of its three forms.
bool looks_like_torch(Bytes file);
/// All tensors of such a file. Throws Error(kWeights, kUnsupported).
StoredTensors parse_torch_file(Bytes file, const std::string& place, std::vector<std::string>& skipped);

}  // namespace orrery::weights_detail
