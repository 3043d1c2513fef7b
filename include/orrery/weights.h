#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "orrery/export.h"

namespace orrery {

/// Tensors by name.
using TensorMap = std::map<std::string, at::Tensor>;

/// What a file says about one tensor before it is read.
struct TensorInfo {
  std::vector<int64_t> shape;
  at::ScalarType dtype = at::kFloat;
  int64_t bytes = 0;
};

/// A source of named tensors; the base of files and of decorators (rename, LoRA merge). Implementations are const and
/// may be read from several threads.
class ORRERY_API TensorSource {
 public:
  virtual ~TensorSource();
  /// For messages: the file or folder.
  virtual std::string place() const = 0;
  virtual const std::map<std::string, TensorInfo>& infos() const = 0;
  /// The tensor as stored; it may be a view of a memory map that lives as long as the tensor does.
  virtual at::Tensor read(const std::string& name) const = 0;
  /// The file's own metadata (safetensors __metadata__); empty for other formats.
  virtual const std::map<std::string, std::string>& metadata() const;
};

/// A view on a checkpoint: source + prefix + wanted dtype and device. Copies are cheap; construction of a layer reads from
/// it.
///
/// Wrappers. A view looks for a wrapper that all tensors share (any of "net.", "net_ema.", "model.", "module.",
/// "_orig_mod.", one inside another) and hides it: names() of "module.net.a" and "module.net.b" are "a" and "b". A tensor
/// may be asked for with the wrapper or without, so that a layer may call sub("model") whether or not that was stripped.
/// Where "net." and "net_ema." (or "model." and "model_ema.") stand side by side, the averaged copy is hidden; so are
/// `_extra_state` entries.
class ORRERY_API Weights {
 public:
  /// All of a source.
  explicit Weights(std::shared_ptr<const TensorSource> source);

  /// Opens a .safetensors, .safetensors.index.json, .pt, .pth, .jit/.ckpt file, or a component folder (which holds one of
  /// these under a usual name; an index of shards goes before a single file). Formats are told apart by content. Only
  /// headers are read. Throws Error(kWeights) on damage, a missing shard, a hostile pickle.
  static Weights open(const std::filesystem::path& path);
  /// Tensors in memory, mostly for tests. `place` names them in errors.
  static Weights from(TensorMap tensors, std::string place);

  /// The view one level down: sub("decoder").get("conv1.weight") reads "decoder.conv1.weight".
  Weights sub(std::string_view name) const;
  Weights sub(std::string_view name, int64_t index) const;  ///< sub("blocks", 3) is sub("blocks.3")
  /// This view with names as `names` gives them: wanted name → stored name (both full, without this view's prefix).
  Weights renamed(const std::map<std::string, std::string>& names) const;
  /// This view with every tensor delivered in this dtype (float ones only) and on this device.
  Weights to(at::ScalarType dtype, at::Device device = at::kCPU) const;
  /// This view with every tensor in the dtype it is stored in, on this view's device: for layers that expand where they use.
  Weights as_stored() const;

  /// The tensor in the view's dtype and device. Throws Error(kWeights) with the full name, both shapes and the file when it
  /// is missing or misshapen, or begins with NaN (infinities are let through). A stored tensor of that dtype is a view of
  /// the map: it costs no memory until it is touched. A float8 tensor beside which the checkpoint keeps a scale
  /// ("X.scale_weight" or "X.weight_scale" of "X.weight") is multiplied by it; as stored, that is bfloat16.
  at::Tensor get(std::string_view name, at::IntArrayRef shape) const;
  /// As get(), with an undefined tensor where the name is absent.
  at::Tensor find(std::string_view name, at::IntArrayRef shape) const;
  /// As get() of the tensor as stored, for layers that keep float8 in memory, and the scale that it is not multiplied by
  /// yet: float32 [1] or [rows], undefined where there is none.
  std::pair<at::Tensor, at::Tensor> get_with_scale(std::string_view name, at::IntArrayRef shape) const;
  /// The tensor as stored, whatever its shape.
  at::Tensor stored(std::string_view name) const;

  bool has(std::string_view name) const;                                   ///< exactly this tensor
  bool has_prefix(std::string_view name) const;                            ///< any tensor at or under "name."
  std::optional<std::vector<int64_t>> shape(std::string_view name) const;  ///< empty where absent
  std::optional<TensorInfo> info(std::string_view name) const;             ///< as stored; empty where absent
  std::vector<std::string> names() const;                                  ///< under this view, without its prefix
  const std::map<std::string, std::string>& metadata() const;
  std::string place() const;
  at::ScalarType dtype() const;  ///< what to() asked for, also under as_stored(); float32 before any to()
  at::Device device() const;

  /// Full names, as they stand in the file, that no get(), find() or stored() of any view of this source has asked for;
  /// names skipped on purpose are not listed.
  std::vector<std::string> unused() const;
  /// Whether a get(), find() or stored() of any view of this source has asked for this tensor.
  bool used(std::string_view name) const;
  /// Says that a tensor under this view, or all under "name.", is known and not needed (buffers that we compute).
  void ignore(std::string_view name) const;

  /// Instead of throwing, collect what is wrong (for `inspect`): get() of a missing or misshapen tensor notes it in the
  /// report. All tensors are delivered as meta tensors of the wanted shape and device() is meta: nothing is read, whatever
  /// the size.
  struct Report {
    std::vector<std::string> missing;
    std::vector<std::string> misshapen;  ///< "name: expected [..], got [..]"
    int64_t more_bytes = 0;              ///< that the form in memory takes beyond what is stored (less than 0: fewer)
  };
  /// This view, which fills `report` from now on.
  Weights collecting(std::shared_ptr<Report> report) const;
  /// Says that a layer keeps what it read in another form, which takes so many bytes more than what is stored.
  void kept_in_another_form(int64_t more_bytes) const;

 private:
  struct Shared;
  struct Names;
  Weights() = default;
  std::string locate(std::string_view name) const;  // its name in the file; empty where absent
  at::Tensor deliver(std::string_view name, at::IntArrayRef shape, bool required, at::Tensor* scale) const;

  std::shared_ptr<Shared> shared_;
  std::shared_ptr<const Names> names_;  // of renamed(); empty mostly
  std::shared_ptr<Report> report_;      // of collecting()
  std::string prefix_;
  std::optional<at::ScalarType> dtype_;
  bool as_stored_ = false;
  at::Device device_ = at::kCPU;
};

/// Reads all tensors of a .safetensors file into memory maps.
ORRERY_API TensorMap load_safetensors(const std::filesystem::path& path);
/// Writes tensors (made contiguous, on the CPU) and metadata beside `path`, then renames: a reader never sees half a file.
ORRERY_API void save_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                                 const std::map<std::string, std::string>& metadata = {});

}  // namespace orrery
