#include "orrery/weights.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>

#include <mutex>
#include <set>

#include "orrery/error.h"
#include "orrery/log.h"
#include "weights/dtypes.h"
#include "weights/sources.h"
#include "weights/upload.h"
#include "weights/wrappers.h"

namespace orrery {
namespace {

bool is_under(std::string_view name, std::string_view parent) {
  return parent.empty() || (name.size() > parent.size() && name.starts_with(parent) && name[parent.size()] == '.');
}

bool is_float(at::ScalarType dtype) {
  return at::isFloatingType(dtype) || at::isFloat8Type(dtype);
}

/// Looks at the first elements only: a checkpoint that diverged is NaN everywhere, and large tensors stay unread until used.
bool starts_with_nan(const at::Tensor& tensor) {
  constexpr int64_t kChecked = 4096;
  if (!at::isFloatingType(tensor.scalar_type()) || at::isFloat8Type(tensor.scalar_type())) return false;
  if (tensor.numel() == 0 || !tensor.is_contiguous()) return false;
  return tensor.view(-1).narrow(0, 0, std::min(kChecked, tensor.numel())).isnan().any().item<bool>();
}

// What is converted is converted there: it crosses as it is stored.
at::Tensor brought(const at::Tensor& stored, at::Device device, at::ScalarType dtype) {
  const at::Tensor pinned = weights_detail::pinned_for(stored, device);
  if (pinned.is_same(stored)) return stored.to(device, dtype).contiguous();
  return pinned.to(device, pinned.scalar_type(), /*non_blocking=*/true).to(dtype);
}

}  // namespace

at::Tensor weights_detail::pinned_for(const at::Tensor& tensor, at::Device device) {
  const bool pins = device.is_cuda() || (device.is_privateuseone() && at::isPrivateUse1HooksRegistered());
  if (!pins || !tensor.is_cpu() || tensor.numel() == 0) return tensor;
  const at::Tensor pinned =
      at::detail::empty_generic(tensor.sizes(), at::globalContext().getPinnedMemoryAllocator(device.type()),
                                c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.scalar_type(), std::nullopt);
  pinned.copy_(tensor);
  return pinned;
}

TensorSource::~TensorSource() = default;

const std::map<std::string, std::string>& TensorSource::metadata() const {
  static const std::map<std::string, std::string> none;
  return none;
}

/// The checkpoint and who asked for what; the same for every view of it.
struct Weights::Shared {
  std::shared_ptr<const TensorSource> source;
  weights_detail::Wrappers wrappers;
  mutable std::mutex mutex;
  mutable std::set<std::string> asked;
  std::set<std::string> ignored;

  bool holds(const std::string& stored) const {
    return source->infos().contains(stored) && !wrappers.hidden.contains(stored);
  }

  /// The name in the file of a name with or without the wrapper; empty when there is no such tensor.
  std::string stored_name(const std::string& full) const {
    if (std::string wrapped = wrappers.common + full; holds(wrapped)) return wrapped;
    return !wrappers.common.empty() && holds(full) ? full : std::string();
  }
};

/// Wanted → unwrapped stored name and back, for the tensors that renamed() moved.
struct Weights::Names {
  std::map<std::string, std::string> stored, wanted;
};

Weights::Weights(std::shared_ptr<const TensorSource> source) : shared_(std::make_shared<Shared>()) {
  shared_->source = std::move(source);
  std::vector<std::string> names;
  for (const auto& [name, info] : shared_->source->infos()) names.push_back(name);
  shared_->wrappers = weights_detail::find_wrappers(names);
  if (const auto& wrappers = shared_->wrappers; !wrappers.common.empty() || !wrappers.hidden.empty())
    log(LogLevel::kDebug, place() + ": wrapper '" + wrappers.common + "' stripped from the tensors' names, " +
                              std::to_string(wrappers.hidden.size()) + " tensors not needed for running");
}

Weights Weights::open(const std::filesystem::path& path) {
  return Weights(weights_detail::open_place(path));
}

Weights Weights::from(TensorMap tensors, std::string place) {
  return Weights(weights_detail::in_memory(std::move(tensors), std::move(place)));
}

Weights Weights::sub(std::string_view name) const {
  Weights view = *this;
  if (!name.empty()) view.prefix_ += std::string(name) + ".";
  return view;
}

Weights Weights::sub(std::string_view name, int64_t index) const {
  return sub(std::string(name) + "." + std::to_string(index));
}

Weights Weights::renamed(const std::map<std::string, std::string>& names) const {
  auto moved = std::make_shared<Names>(names_ ? *names_ : Names{});
  for (const auto& [wanted, stored] : names) {
    std::string origin = prefix_ + stored;
    if (names_)
      if (const auto earlier = names_->stored.find(origin); earlier != names_->stored.end()) origin = earlier->second;
    moved->stored[prefix_ + wanted] = origin;
    moved->wanted[origin] = prefix_ + wanted;
  }
  Weights view = *this;
  view.names_ = std::move(moved);
  return view;
}

Weights Weights::to(at::ScalarType dtype, at::Device device) const {
  Weights view = *this;
  view.dtype_ = dtype;
  view.as_stored_ = false;
  if (!report_) view.device_ = device;
  return view;
}

Weights Weights::as_stored() const {
  Weights view = *this;
  view.as_stored_ = true;
  return view;
}

Weights Weights::collecting(std::shared_ptr<Report> report) const {
  Weights view = *this;
  view.report_ = std::move(report);
  view.device_ = at::kMeta;
  return view;
}

void Weights::kept_in_another_form(int64_t more_bytes) const {
  if (report_) report_->more_bytes += more_bytes;
}

std::string Weights::locate(std::string_view name) const {
  const std::string full = prefix_ + std::string(name);
  if (!names_) return shared_->stored_name(full);
  if (const auto moved = names_->stored.find(full); moved != names_->stored.end())
    return shared_->stored_name(moved->second);
  return names_->wanted.contains(full) ? std::string() : shared_->stored_name(full);
}

at::Tensor Weights::deliver(std::string_view name, at::IntArrayRef shape, bool required, at::Tensor* scale) const {
  const std::string full = prefix_ + std::string(name), stored_as = locate(name);
  const auto dtype_of = [&](at::ScalarType stored) { return dtype_ && !as_stored_ && is_float(stored) ? *dtype_ : stored; };
  if (stored_as.empty()) {
    if (!required) return {};
    if (report_) {
      report_->missing.push_back(full);
      return at::empty(shape, at::TensorOptions(dtype()).device(at::kMeta));
    }
    throw Error(ErrorKind::kWeights, {.place = place() + ": " + full,
                                      .what = "is missing",
                                      .expected = "a tensor " + weights_detail::shape_text(shape),
                                      .hint = "is this a checkpoint of another model?"});
  }
  const std::string scale_name = weights_detail::scale_beside(shared_->source->infos(), stored_as);
  {
    std::lock_guard lock(shared_->mutex);
    shared_->asked.insert(stored_as);
    if (!scale_name.empty()) shared_->asked.insert(scale_name);
  }
  const TensorInfo& info = shared_->source->infos().at(stored_as);
  const auto unfit = [&](const char* what, const std::string& expected, const std::string& got, const char* hint) {
    if (!report_)
      throw Error(ErrorKind::kWeights,
                  {.place = place() + ": " + full, .what = what, .expected = expected, .got = got, .hint = hint});
    report_->misshapen.push_back(full + ": expected " + expected + ", got " + got);
  };
  if (at::IntArrayRef(info.shape) != shape)
    unfit("has the wrong shape", weights_detail::shape_text(shape), weights_detail::shape_text(info.shape),
          "is this a checkpoint of another model?");
  // Someone's quantised checkpoint: its scales stand elsewhere under names of its own.
  if (info.dtype == at::kChar || at::isComplexType(info.dtype))
    unfit("is stored in a form that is not run", "floating-point numbers", c10::toString(info.dtype),
          "take the unquantised checkpoint; --weights int8 makes it small");
  int64_t scales = scale_name.empty() ? 0 : c10::multiply_integers(shared_->source->infos().at(scale_name).shape);
  if (!scale_name.empty() && scales != 1 && (shape.empty() || scales != shape[0])) {
    unfit("has scales of a form that is not run", "one, or one for each output", std::to_string(scales),
          "take the bfloat16 checkpoint; --weights fp8 makes it small");
    scales = 1;
  }
  const bool multiplied = scales > 0 && !scale;
  if (report_) {
    if (scale && scales > 0) *scale = at::empty({scales}, at::TensorOptions(at::kFloat).device(at::kMeta));
    const at::ScalarType kept = dtype_of(multiplied ? at::kBFloat16 : info.dtype);
    const auto wider = static_cast<int64_t>(c10::elementSize(kept)) - static_cast<int64_t>(c10::elementSize(info.dtype));
    report_->more_bytes += wider * c10::multiply_integers(info.shape);
    return at::empty(shape, at::TensorOptions(kept).device(at::kMeta));
  }
  const at::Tensor stored = shared_->source->read(stored_as);
  if (starts_with_nan(stored))
    throw Error(ErrorKind::kWeights, {.place = place() + ": " + full,
                                      .what = "holds NaN",
                                      .expected = "numbers",
                                      .hint = "the file is damaged or its training diverged"});
  if (scales > 0) {
    const at::Tensor factor = brought(shared_->source->read(scale_name), device_, at::kFloat).reshape({scales});
    if (scale) *scale = factor;
    if (multiplied) return weights_detail::scaled(brought(stored, device_, at::kFloat), factor).to(dtype_of(at::kBFloat16));
  }
  return brought(stored, device_, dtype_of(info.dtype));
}

std::pair<at::Tensor, at::Tensor> Weights::get_with_scale(std::string_view name, at::IntArrayRef shape) const {
  at::Tensor scale;
  const at::Tensor tensor = as_stored().deliver(name, shape, true, &scale);
  return {tensor, scale};
}

at::Tensor Weights::get(std::string_view name, at::IntArrayRef shape) const {
  return deliver(name, shape, true, nullptr);
}
at::Tensor Weights::find(std::string_view name, at::IntArrayRef shape) const {
  return deliver(name, shape, false, nullptr);
}

at::Tensor Weights::stored(std::string_view name) const {
  const std::string stored_as = locate(name);
  if (stored_as.empty())
    throw Error(ErrorKind::kWeights, {.place = place() + ": " + prefix_ + std::string(name), .what = "is missing"});
  std::lock_guard lock(shared_->mutex);
  shared_->asked.insert(stored_as);
  return shared_->source->read(stored_as);
}

bool Weights::has(std::string_view name) const {
  return !locate(name).empty();
}

bool Weights::has_prefix(std::string_view name) const {
  return has(name) || !sub(name).names().empty();
}

std::optional<std::vector<int64_t>> Weights::shape(std::string_view name) const {
  const auto found = info(name);
  return found ? std::optional(found->shape) : std::nullopt;
}

std::optional<TensorInfo> Weights::info(std::string_view name) const {
  const std::string stored_as = locate(name);
  if (stored_as.empty()) return std::nullopt;
  return shared_->source->infos().at(stored_as);
}

bool Weights::used(std::string_view name) const {
  std::lock_guard lock(shared_->mutex);
  return shared_->asked.contains(locate(name));
}

std::vector<std::string> Weights::names() const {
  // First without the wrapper; a view that was made with the wrapper's own name finds its tensors in the second round.
  std::vector<std::string> names;
  for (const std::string& wrapper : {shared_->wrappers.common, std::string()}) {
    for (const auto& [stored, info] : shared_->source->infos()) {
      if (!shared_->holds(stored) || !stored.starts_with(wrapper)) continue;
      std::string name = stored.substr(wrapper.size());
      if (names_)
        if (const auto moved = names_->wanted.find(name); moved != names_->wanted.end()) name = moved->second;
      if (name.size() > prefix_.size() && name.starts_with(prefix_)) names.push_back(name.substr(prefix_.size()));
    }
    if (!names.empty() || shared_->wrappers.common.empty()) break;
  }
  if (names_) std::sort(names.begin(), names.end());
  return names;
}

const std::map<std::string, std::string>& Weights::metadata() const {
  return shared_->source->metadata();
}
std::string Weights::place() const {
  return shared_->source->place();
}
at::ScalarType Weights::dtype() const {
  return dtype_.value_or(at::kFloat);
}
at::Device Weights::device() const {
  return device_;
}

std::vector<std::string> Weights::unused() const {
  std::lock_guard lock(shared_->mutex);
  std::vector<std::string> names;
  for (const auto& [stored, info] : shared_->source->infos()) {
    if (weights_detail::belongs_to_float8(stored)) continue;
    const auto covers = [&stored = stored](const std::string& name) { return stored == name || is_under(stored, name); };
    if (shared_->holds(stored) && !shared_->asked.contains(stored) &&
        std::none_of(shared_->ignored.begin(), shared_->ignored.end(), covers))
      names.push_back(stored);
  }
  return names;
}

void Weights::ignore(std::string_view name) const {
  std::string full = prefix_ + std::string(name);
  if (names_)
    if (const auto moved = names_->stored.find(full); moved != names_->stored.end()) full = moved->second;
  std::lock_guard lock(shared_->mutex);
  shared_->ignored.insert(shared_->wrappers.common + full);
  shared_->ignored.insert(full);
}

}  // namespace orrery
