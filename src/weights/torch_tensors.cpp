#include <algorithm>
#include <array>
#include <set>

#include "orrery/error.h"
#include "weights/torch_file.h"

namespace orrery::weights_detail {
namespace {

using Kind = Pickle::Kind;
using Ref = Pickle::Ref;

constexpr int kMaxDepth = 64;
// Modules may be shared, so a small pickle can describe exponentially many names; no real file comes near this.
constexpr size_t kMaxVisits = 5'000'000;

// Keys under which training code keeps the model; what else it keeps beside; and averaged copies of the model.
constexpr std::array<std::string_view, 9> kModelKeys = {"state_dict", "model_state_dict", "model", "module",   "network",
                                                        "params",     "weights",          "net",   "generator"};
constexpr std::array<std::string_view, 19> kTrainingKeys = {"optimizer",
                                                            "optimizers",
                                                            "optimizer_states",
                                                            "optimizer_state_dict",
                                                            "optim",
                                                            "opt",
                                                            "lr_scheduler",
                                                            "lr_schedulers",
                                                            "scheduler",
                                                            "scheduler_state_dict",
                                                            "grad_scaler",
                                                            "scaler",
                                                            "amp_scaler",
                                                            "callbacks",
                                                            "loops",
                                                            "rng_state",
                                                            "cuda_rng_state",
                                                            "random_state",
                                                            "hyper_parameters"};
constexpr std::array<std::string_view, 8> kAveragedKeys = {
    "ema", "model_ema", "ema_state_dict", "state_dict_ema", "ema_model", "ema_model_state_dict", "params_ema", "net_ema"};

template <typename Names>
bool is_one_of(std::string_view name, const Names& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

class Collector {
 public:
  Collector(const Pickle& pickle, const LocateStorage& locate, const std::map<std::string, StoredTensor>& known,
            const std::string& place, std::vector<std::string>& skipped)
      : pickle_(pickle), locate_(locate), known_(known), place_(place), skipped_(skipped) {}

  StoredTensors run() {
    const Ref root = descend(pickle_.root_ref());
    if (const auto tensor = as_tensor(root, "tensor"))
      tensors_.emplace("tensor", *tensor);
    else
      flatten(root, "", 0);
    return std::move(tensors_);
  }

 private:
  using Pairs = std::vector<std::pair<Ref, Ref>>;

  // --- what a value is ---
  bool is_tensor(Ref ref) const {
    const auto& value = pickle_[ref];
    if (value.kind == Kind::kPersistent) return known_.contains(pickle_.name(value.args));
    return value.kind == Kind::kCall &&
           (value.text.starts_with("torch._utils._rebuild_") || value.text == "torch._tensor._rebuild_from_type_v2");
  }

  /// Named members: of a dict, of a TorchScript or pickled module, or of any other object's attributes; items of a sequence.
  Pairs members(Ref ref) const {
    Pairs pairs = pickle_.dict(ref);
    const auto& value = pickle_[ref];
    if (value.kind == Kind::kCall && value.state != Pickle::kNothing && pairs.empty()) pairs = pickle_.dict(value.state);
    return pairs;
  }

  bool holds_tensors(Ref ref, int depth = 0) {
    visit();
    if (depth > kMaxDepth) return false;
    if (is_tensor(ref)) return true;
    for (const auto& [key, member] : members(ref))
      if (holds_tensors(member, depth + 1)) return true;
    for (const Ref item : pickle_.sequence(ref))
      if (holds_tensors(item, depth + 1)) return true;
    return false;
  }

  /// Goes down to the state dict as long as exactly one member can be it.
  Ref descend(Ref root) {
    for (int depth = 0; depth < kMaxDepth; ++depth) {
      const Pairs pairs = pickle_.dict(root);
      Pairs models, averaged;
      for (const auto& [key, member] : pairs) {
        const std::string name = pickle_.name(key);
        if (is_tensor(member)) return root;
        if (is_one_of(name, kTrainingKeys))
          leave_out(member, name);
        else if (holds_tensors(member))
          (is_one_of(name, kAveragedKeys) ? averaged : models).emplace_back(key, member);
      }
      if (models.empty()) models.swap(averaged);
      if (models.size() != 1) return root;
      const std::string name = pickle_.name(models[0].first);
      if (!is_one_of(name, kModelKeys) && !is_one_of(name, kAveragedKeys)) return root;
      for (const auto& [key, member] : averaged) leave_out(member, pickle_.name(key));
      root = models[0].second;
    }
    return root;
  }

  void leave_out(Ref ref, std::string name) {
    if (left_out_.insert(ref).second) skipped_.push_back(std::move(name));
  }

  // --- tensors ---
  std::optional<StoredTensor> as_tensor(Ref ref, const std::string& name) const {
    for (int depth = 0; depth < kMaxDepth; ++depth) {
      if (!is_tensor(ref)) return std::nullopt;
      const auto& value = pickle_[ref];
      if (value.kind == Kind::kPersistent) return known_.at(pickle_.name(value.args));
      const auto arguments = pickle_.sequence(value.args);
      std::string_view function = value.text;
      function.remove_prefix(function.rfind('.') + 1);
      if (function == "_rebuild_parameter" || function == "_rebuild_parameter_with_state") {
        if (arguments.empty()) damaged(name, "is a parameter without data");
        ref = arguments[0];
      } else if (function == "_rebuild_from_type_v2") {
        // (function, type, arguments, state): a subclass; its data is what the inner function makes.
        if (arguments.size() < 3) damaged(name, "is a tensor subclass without data");
        return rebuild(pickle_[arguments[0]].text, pickle_.sequence(arguments[2]), name);
      } else {
        return rebuild(value.text, arguments, name);
      }
    }
    damaged(name, "is nested too deeply");
  }

  /// torch._utils: _rebuild_tensor(storage, offset, size, stride), _v2(…, requires_grad, hooks, metadata), _v3(…, dtype).
  StoredTensor rebuild(std::string_view function, const std::vector<Ref>& arguments, const std::string& name) const {
    const bool v3 = function == "torch._utils._rebuild_tensor_v3";
    if (!v3 && function != "torch._utils._rebuild_tensor_v2" && function != "torch._utils._rebuild_tensor")
      throw Error(ErrorKind::kUnsupported, {.place = place_ + ": " + name,
                                            .what = "is a kind of tensor that cannot be read",
                                            .expected = "a dense one",
                                            .got = std::string(function)});
    if (arguments.size() < (v3 ? 7u : 4u)) damaged(name, "is a tensor without a shape");
    const auto& offset = pickle_[arguments[1]];
    const auto shape = pickle_.integers(arguments[2]), strides = pickle_.integers(arguments[3]);
    if (offset.kind != Kind::kInt || !shape || !strides) damaged(name, "has a malformed shape");

    StoredTensor tensor;
    tensor.shape = *shape;
    tensor.strides = *strides;
    tensor.offset = offset.integer;
    StorageRequest request = storage(arguments[0], name, tensor);
    int64_t element = request.dtype ? element_bytes(*request.dtype) : 1;
    int64_t elements = request.elements;
    if (v3) {
      const auto dtype = dtype_of_torch(pickle_[arguments[6]].text);
      if (!dtype) unknown_dtype(name, pickle_[arguments[6]].text);
      elements = elements / std::max<int64_t>(1, element_bytes(*dtype)) * element;
      tensor.dtype = *dtype;
    } else if (request.dtype) {
      tensor.dtype = *request.dtype;
    } else {
      tensor.dtype = c10::ScalarType::Byte;
    }
    const auto extent = locate_(request);
    if (!extent) damaged(name, "lacks its data (storage " + request.key + ")");
    tensor.storage = *extent;
    check_bounds(tensor, elements, place_ + ": " + name);
    return tensor;
  }

  /// ("storage", torch.FloatStorage, key, location, elements[, view of a root]); the location (a device) does not matter.
  StorageRequest storage(Ref ref, const std::string& name, StoredTensor& tensor) const {
    const auto& value = pickle_[ref];
    const auto id = pickle_.sequence(value.args);
    if (value.kind != Kind::kPersistent || id.size() < 5 || pickle_.name(id[0]) != "storage" ||
        pickle_[id[4]].kind != Kind::kInt)
      damaged(name, "has no storage");
    StorageRequest request{pickle_.name(id[2]), pickle_[id[4]].integer, dtype_of_torch(pickle_[id[1]].text)};
    if (!request.dtype && !pickle_[id[1]].text.ends_with(".UntypedStorage")) unknown_dtype(name, pickle_[id[1]].text);
    if (id.size() > 5 && pickle_[id[5]].kind != Kind::kNone) {
      const auto view = pickle_.sequence(id[5]);
      if (view.size() != 3 || pickle_[view[1]].kind != Kind::kInt ||
          __builtin_add_overflow(tensor.offset, pickle_[view[1]].integer, &tensor.offset))
        damaged(name, "has a malformed storage view");
    }
    return request;
  }

  // --- names ---
  void flatten(Ref ref, const std::string& prefix, int depth) {
    visit();
    if (depth > kMaxDepth) damaged(prefix, "is nested too deeply");
    if (left_out_.contains(ref)) return;
    Pairs pairs = members(ref);
    if (pairs.empty()) {
      int64_t index = 0;
      for (const Ref item : pickle_.sequence(ref)) add(item, prefix + std::to_string(index++), depth);
      return;
    }
    // torch.nn.Module.__dict__: these three dicts hold what state_dict() would name without them.
    if (pickle_.at(pickle_[ref].state, "_parameters")) {
      const Ref state = pickle_[ref].state;
      std::set<std::string> transient;
      if (const auto names = pickle_.at(state, "_non_persistent_buffers_set"))
        for (const Ref item : pickle_.sequence(*names)) transient.insert(pickle_.name(item));
      for (const char* part : {"_parameters", "_buffers", "_modules"})
        if (const auto dict = pickle_.at(state, part))
          for (const auto& [key, member] : pickle_.dict(*dict))
            if (!transient.contains(pickle_.name(key))) add(member, prefix + pickle_.name(key), depth);
      return;
    }
    for (const auto& [key, member] : pairs) add(member, prefix + pickle_.name(key), depth);
  }

  void add(Ref member, const std::string& name, int depth) {
    if (const auto tensor = as_tensor(member, name)) {
      if (!tensors_.emplace(name, *tensor).second) damaged(name, "stands twice in the file");
    } else {
      flatten(member, name + ".", depth + 1);
    }
  }

  void visit() {
    if (++visits_ > kMaxVisits) damaged("", "describes more tensors than any checkpoint");
  }

  [[noreturn]] void damaged(const std::string& name, std::string what) const {
    throw Error(ErrorKind::kWeights, {.place = name.empty() ? place_ : place_ + ": " + name,
                                      .what = std::move(what),
                                      .hint = "the file is incomplete or damaged"});
  }
  [[noreturn]] void unknown_dtype(const std::string& name, const std::string& got) const {
    throw Error(ErrorKind::kUnsupported,
                {.place = place_ + ": " + name, .what = "has a dtype that cannot be read", .got = got});
  }

  const Pickle& pickle_;
  const LocateStorage& locate_;
  const std::map<std::string, StoredTensor>& known_;
  const std::string& place_;
  std::vector<std::string>& skipped_;
  StoredTensors tensors_;
  std::set<Ref> left_out_;
  size_t visits_ = 0;
};

}  // namespace

StoredTensors collect_tensors(const Pickle& pickle, const LocateStorage& locate,
                              const std::map<std::string, StoredTensor>& known, const std::string& place,
                              std::vector<std::string>& skipped) {
  return Collector(pickle, locate, known, place, skipped).run();
}

std::optional<c10::ScalarType> dtype_of_torch(std::string_view name) {
  struct Row {
    std::string_view storage, dtype;
    c10::ScalarType type;
  };
  using c10::ScalarType;
  constexpr std::array kTable = {
      Row{"FloatStorage", "float32", ScalarType::Float},
      Row{"DoubleStorage", "float64", ScalarType::Double},
      Row{"HalfStorage", "float16", ScalarType::Half},
      Row{"BFloat16Storage", "bfloat16", ScalarType::BFloat16},
      Row{"LongStorage", "int64", ScalarType::Long},
      Row{"IntStorage", "int32", ScalarType::Int},
      Row{"ShortStorage", "int16", ScalarType::Short},
      Row{"CharStorage", "int8", ScalarType::Char},
      Row{"ByteStorage", "uint8", ScalarType::Byte},
      Row{"BoolStorage", "bool", ScalarType::Bool},
      Row{"ComplexFloatStorage", "complex64", ScalarType::ComplexFloat},
      Row{"ComplexDoubleStorage", "complex128", ScalarType::ComplexDouble},
      Row{"", "uint16", ScalarType::UInt16},
      Row{"", "uint32", ScalarType::UInt32},
      Row{"", "uint64", ScalarType::UInt64},
      Row{"", "float8_e4m3fn", ScalarType::Float8_e4m3fn},
      Row{"", "float8_e5m2", ScalarType::Float8_e5m2},
      Row{"", "float8_e4m3fnuz", ScalarType::Float8_e4m3fnuz},
      Row{"", "float8_e5m2fnuz", ScalarType::Float8_e5m2fnuz},
      Row{"", "float8_e8m0fnu", ScalarType::Float8_e8m0fnu},
  };
  if (!name.starts_with("torch.")) return std::nullopt;
  name.remove_prefix(name.rfind('.') + 1);
  for (const Row& row : kTable)
    if (name == row.dtype || (!row.storage.empty() && name == row.storage)) return row.type;
  return std::nullopt;
}

void check_bounds(const StoredTensor& tensor, int64_t elements, const std::string& place) {
  const auto refuse = [&](std::string what) {
    throw Error(ErrorKind::kWeights,
                {.place = place, .what = std::move(what), .hint = "the file is incomplete or damaged; download it again"});
  };
  const int64_t element = element_bytes(tensor.dtype);
  const auto count = count_elements(tensor.shape, element);
  if (!count || tensor.shape.size() != tensor.strides.size() || tensor.shape.size() > 64) refuse("has an impossible shape");
  if (elements < 0 || static_cast<uint64_t>(elements) > tensor.storage.size / static_cast<uint64_t>(element))
    refuse("has fewer bytes than its storage should have");
  if (tensor.offset < 0 || tensor.offset > elements) refuse("lies outside its storage");
  if (*count == 0) return;
  int64_t last = tensor.offset;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    int64_t reach = 0;
    if (tensor.strides[i] < 0 || __builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &reach) ||
        __builtin_add_overflow(last, reach, &last))
      refuse("has impossible strides");
  }
  if (last >= elements) refuse("lies outside its storage");
}

}  // namespace orrery::weights_detail
