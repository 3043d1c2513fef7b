#include "weights/lora.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>

#include "orrery/error.h"
#include "weights/dtypes.h"
#include "weights/lora_file.h"
#include "weights/sources.h"
#include "weights/wrappers.h"

namespace orrery::weights_detail {
namespace {

constexpr std::string_view kWeight = ".weight", kBias = ".bias";

// One addition to one tensor.
struct Change {
  std::shared_ptr<const TensorSource> source;
  std::string down, up;  // a product, or
  std::string diff;      // a whole difference
  double scale = 1;
  std::string magnitude;  // DoRA: the length of each row afterwards

  at::Tensor operator()() const {
    if (!diff.empty()) return source->read(diff).to(at::kFloat);
    return at::mm(source->read(up).to(at::kFloat).flatten(1), source->read(down).to(at::kFloat).flatten(1));
  }
  void apply(at::Tensor& weight) const {
    weight.add_((*this)().view_as(weight), scale);
    if (magnitude.empty()) return;
    at::Tensor rows = weight.view({weight.size(0), -1});
    const at::Tensor lengths = at::linalg_vector_norm(rows, 2, at::IntArrayRef{1}, /*keepdim=*/true);
    rows.mul_(source->read(magnitude).to(at::kFloat).view({-1, 1}) / lengths);
  }
};

class MergedSource final : public TensorSource {
 public:
  MergedSource(std::shared_ptr<const TensorSource> base, std::map<std::string, std::vector<Change>> changes)
      : base_(std::move(base)), changes_(std::move(changes)), infos_(base_->infos()) {
    for (const auto& [name, unused] : changes_) {
      TensorInfo& info = infos_.at(name);
      if (!at::isFloat8Type(info.dtype)) continue;
      info.dtype = at::kBFloat16;
      info.bytes *= 2;
    }
  }
  std::string place() const override { return base_->place(); }
  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  const std::map<std::string, std::string>& metadata() const override { return base_->metadata(); }
  at::Tensor read(const std::string& name) const override {
    const at::Tensor stored = base_->read(name);
    const auto found = changes_.find(name);
    if (found == changes_.end()) return stored;
    at::Tensor sum = stored.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
    if (const std::string scale = scale_beside(base_->infos(), name); !scale.empty())
      sum = scaled(sum, base_->read(scale).to(at::kFloat));
    for (const Change& change : found->second) change.apply(sum);
    return sum.to(infos_.at(name).dtype);
  }

 private:
  std::shared_ptr<const TensorSource> base_;
  std::map<std::string, std::vector<Change>> changes_;
  std::map<std::string, TensorInfo> infos_;
};

// The tensors of a checkpoint with adapters that are the network's own, by the names they had without.
class WithoutAdapters final : public TensorSource {
 public:
  explicit WithoutAdapters(std::shared_ptr<const TensorSource> base) : base_(std::move(base)) {
    for (const auto& [stored, info] : base_->infos()) {
      if (is_adapter(stored)) continue;
      std::string name = stored;
      if (const size_t at = name.rfind(kBaseLayer); at != std::string::npos) name.erase(at, kBaseLayer.size());
      infos_[name] = info;
      stored_[name] = stored;
    }
  }
  static bool is_adapter(const std::string& name) {
    return name.find(".lora_A.") != std::string::npos || name.find(".lora_B.") != std::string::npos ||
           name.find(".lora_magnitude_vector") != std::string::npos;
  }
  static constexpr std::string_view kBaseLayer = ".base_layer";

  std::string place() const override { return base_->place(); }
  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  const std::map<std::string, std::string>& metadata() const override { return base_->metadata(); }
  at::Tensor read(const std::string& name) const override { return base_->read(stored_.at(name)); }

 private:
  std::shared_ptr<const TensorSource> base_;
  std::map<std::string, TensorInfo> infos_;
  std::map<std::string, std::string> stored_;
};

std::string underscored(std::string name) {
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

// Layers by every name they go under, to the name of their tensor in the file.
class Layers {
 public:
  Layers(const TensorSource& base, const std::vector<std::map<std::string, std::string>>& layouts) {
    std::vector<std::string> stored;
    for (const auto& [name, info] : base.infos()) stored.push_back(name);
    const std::string wrapper = find_wrappers(stored).common;
    for (const std::string& name : stored)
      if (name.starts_with(wrapper)) add(name.substr(wrapper.size()), name);
    const auto own = tensors_;
    for (const auto& layout : layouts)
      for (const auto& [wanted, original] : layout) {
        if (const auto found = own.find(wanted); found != own.end())
          add(original, found->second);
        else if (const auto there = own.find(original); there != own.end())
          add(wanted, there->second);
      }
  }

  /// The weight of a layer under a LoRA file's name for it, and its bias; empty where there is none.
  std::string weight(const std::string& module) const { return find(weights_, module); }
  std::string bias(const std::string& module) const { return find(biases_, module); }

 private:
  using Table = std::map<std::string, std::string>;

  void add(const std::string& name, const std::string& stored) {
    tensors_.emplace(name, stored);
    if (name.ends_with(kBias))
      add(biases_, name.substr(0, name.size() - kBias.size()), stored);
    else if (name.ends_with(kWeight))
      add(weights_, name.substr(0, name.size() - kWeight.size()), stored);
    else
      add(weights_, name, stored);  // a table that is no layer: "blocks.0.modulation"
  }
  static void add(Table& table, const std::string& module, const std::string& stored) {
    table.emplace(module, stored);
    table.emplace(underscored(module), stored);
  }
  static std::string find(const Table& table, std::string_view module) {
    constexpr std::array<std::string_view, 10> kPrefixes = {
        "base_model.", "model.",   "diffusion_model.", "transformer.", "transformer_2.",
        "net.",        "net_ema.", "module.",          "lora_unet_",   "lora_transformer_"};
    for (bool stripped = true; stripped;) {
      if (const auto found = table.find(std::string(module)); found != table.end()) return found->second;
      stripped = false;
      for (const std::string_view prefix : kPrefixes)
        if (module.starts_with(prefix)) {
          module.remove_prefix(prefix.size());
          stripped = true;
          break;
        }
    }
    return {};
  }

  Table tensors_, weights_, biases_;
};

class Merger {
 public:
  Merger(const TensorSource& base, const Layers& layers, std::map<std::string, std::vector<Change>>& changes)
      : base_(base), layers_(layers), changes_(changes) {}

  void add(const LoraContents& lora, double scale, const std::string& component) {
    std::vector<std::string> strangers;
    size_t known = 0;
    const bool names_experts = std::any_of(lora.entries.begin(), lora.entries.end(), [](const LoraEntry& entry) {
      return entry.module.starts_with("transformer_2.");
    });
    for (const LoraEntry& entry : lora.entries) {
      if (entry.module.starts_with("transformer_2.") && component == "transformer") continue;
      if (names_experts && entry.module.starts_with("transformer.") && component != "transformer") continue;
      const std::string weight = layers_.weight(entry.module), bias = layers_.bias(entry.module);
      if (weight.empty() || (!entry.bias.empty() && bias.empty())) {
        strangers.push_back(weight.empty() ? entry.first : entry.bias);
        continue;
      }
      ++known;
      if (!entry.down.empty()) {
        check(lora, entry.down, lora.source->infos().at(entry.up).shape, lora.source->infos().at(entry.down).shape, weight);
        if (!entry.magnitude.empty()) check_magnitude(lora, entry.magnitude, weight);
        changes_[weight].push_back({lora.source, entry.down, entry.up, "", scale * lora.scale_of(entry), entry.magnitude});
      }
      if (!entry.diff.empty()) add_difference(lora, entry.diff, weight, scale);
      if (!entry.bias.empty())
        add_difference(lora, entry.bias, bias, scale * (entry.bias.ends_with("diff_b") ? 1 : lora.scale_of(entry)));
    }
    if (strangers.empty()) return;
    const std::string place = lora.source->place();
    if (known == 0)
      throw Error(ErrorKind::kWeights,
                  {.place = place + ": " + strangers.front(),
                   .what = "and all " + std::to_string(strangers.size()) + " layers of the file are no layers of the model",
                   .expected = "a LoRA made for " + base_.place(),
                   .hint = "this LoRA is of another model"});
    throw Error(ErrorKind::kWeights, {.place = place + ": " + strangers.front(),
                                      .what = "is no layer of the model (" + std::to_string(strangers.size()) + " such: " +
                                              list_names(strangers) + "; " + std::to_string(known) + " others fit)",
                                      .hint = "this LoRA is of another form of the model"});
  }

 private:
  void add_difference(const LoraContents& lora, const std::string& key, const std::string& stored, double scale) {
    const auto &shape = lora.source->infos().at(key).shape, &wanted = base_.infos().at(stored).shape;
    if (shape != wanted) misfit(lora, key, shape_text(wanted), shape_text(shape), stored);
    changes_[stored].push_back({lora.source, "", "", key, scale, ""});
  }

  void check_magnitude(const LoraContents& lora, const std::string& key, const std::string& stored) const {
    const auto &shape = lora.source->infos().at(key).shape, &wanted = base_.infos().at(stored).shape;
    int64_t count = 1;
    for (const int64_t side : shape) count *= side;
    if (count == wanted[0]) return;
    throw Error(ErrorKind::kUnsupported, {.place = lora.source->place() + ": " + key,
                                          .what = "is a DoRA magnitude of another axis than the output's",
                                          .expected = std::to_string(wanted[0]) + " numbers",
                                          .got = shape_text(shape),
                                          .hint = "merge it with the tool that made it"});
  }

  // up [out, r, 1…] and down [r, in, …] against the weight [out, in, …].
  void check(const LoraContents& lora, const std::string& key, const std::vector<int64_t>& up,
             const std::vector<int64_t>& down, const std::string& stored) const {
    const auto& wanted = base_.infos().at(stored).shape;
    const auto rest = [](const std::vector<int64_t>& shape, size_t from) {
      int64_t count = 1;
      for (size_t i = from; i < shape.size(); ++i) count *= shape[i];
      return count;
    };
    if (wanted.size() >= 2 && up[0] == wanted[0] && rest(up, 2) == 1 && rest(down, 1) == rest(wanted, 1)) return;
    misfit(lora, key, shape_text(wanted), "[" + std::to_string(up[0]) + ", " + std::to_string(rest(down, 1)) + "]", stored);
  }

  [[noreturn]] static void misfit(const LoraContents& lora, const std::string& key, std::string expected, std::string got,
                                  const std::string& stored) {
    throw Error(ErrorKind::kWeights, {.place = lora.source->place() + ": " + key,
                                      .what = "does not fit " + stored,
                                      .expected = "a change of shape " + std::move(expected),
                                      .got = std::move(got),
                                      .hint = "this LoRA is of a model of another size"});
  }

  const TensorSource& base_;
  const Layers& layers_;
  std::map<std::string, std::vector<Change>>& changes_;
};

// The DoRA lengths that stand beside an adapter; empty where there are none.
std::string magnitude_of(const TensorSource& base, const std::string& module) {
  for (const char* name :
       {".lora_magnitude_vector.default.weight", ".lora_magnitude_vector.weight", ".lora_magnitude_vector"})
    if (base.infos().contains(module + name)) return module + name;
  return {};
}

}  // namespace

std::shared_ptr<const TensorSource> fold_adapters(std::shared_ptr<const TensorSource> base) {
  const auto& infos = base->infos();
  const auto is_base = [](const auto& item) { return item.first.ends_with(".base_layer.weight"); };
  if (std::none_of(infos.begin(), infos.end(), is_base)) return base;
  std::map<std::string, std::vector<Change>> changes;
  for (const auto& [name, info] : infos) {
    const size_t at = name.find(".lora_A.");
    if (at == std::string::npos) continue;
    std::string up = name;
    up.replace(at, 8, ".lora_B.");
    const std::string module = name.substr(0, at), layer = module + ".base_layer.weight",
                      magnitude = magnitude_of(*base, module);
    const auto &down = info.shape, &wanted = infos.contains(layer) ? infos.at(layer).shape : down;
    if (!infos.contains(layer) || !infos.contains(up) || down.size() != 2 || wanted.size() != 2 ||
        infos.at(up).shape.size() != 2 || infos.at(up).shape != std::vector<int64_t>{wanted[0], down[0]} ||
        down[1] != wanted[1] || (!magnitude.empty() && infos.at(magnitude).shape != std::vector<int64_t>{wanted[0]}))
      throw Error(ErrorKind::kWeights, {.place = base->place() + ": " + name,
                                        .what = "is an adapter without the layer or the counterpart that it needs",
                                        .hint = "the file is incomplete; download it again"});
    changes[module + ".weight"].push_back({base, name, up, "", 1, magnitude});
  }
  auto network = std::make_shared<WithoutAdapters>(base);
  if (changes.empty()) return network;
  return std::make_shared<MergedSource>(std::move(network), std::move(changes));
}

std::shared_ptr<const TensorSource> merge_loras(std::shared_ptr<const TensorSource> base, const std::vector<LoraFile>& files,
                                                const std::vector<std::map<std::string, std::string>>& layouts,
                                                const std::string& component) {
  const Layers layers(*base, layouts);
  std::map<std::string, std::vector<Change>> changes;
  Merger merger(*base, layers, changes);
  for (const LoraFile& file : files)
    if (file.component.empty() || file.component == component) merger.add(open_lora(file.path), file.scale, component);
  if (changes.empty()) return base;
  return std::make_shared<MergedSource>(std::move(base), std::move(changes));
}

}  // namespace orrery::weights_detail
