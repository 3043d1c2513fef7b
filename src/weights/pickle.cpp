#include "weights/pickle.h"

#include <algorithm>
#include <array>

#include "orrery/error.h"

namespace orrery::weights_detail {
namespace {

using Kind = Pickle::Kind;

bool is_dict_class(std::string_view name) {
  constexpr std::array<std::string_view, 5> kNames = {"collections.OrderedDict", "collections.defaultdict", "builtins.dict",
                                                      "__builtin__.dict", "torch.nn.modules.container.ParameterDict"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

bool is_sequence_class(std::string_view name) {
  constexpr std::array<std::string_view, 8> kNames = {
      "builtins.set",  "__builtin__.set", "builtins.frozenset", "__builtin__.frozenset",
      "builtins.list", "builtins.tuple",  "torch.Size",         "collections.deque"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

}  // namespace

std::vector<std::pair<Pickle::Ref, Pickle::Ref>> Pickle::dict(Ref ref) const {
  const Value& value = values_[ref];
  std::vector<std::pair<Ref, Ref>> pairs;
  if (value.kind != Kind::kDict && value.kind != Kind::kCall) return pairs;
  if (value.kind == Kind::kCall && is_dict_class(value.text)) {
    // OrderedDict([[key, value], …]), as Python 2 wrote it.
    for (const Ref argument : sequence(value.args))
      for (const Ref pair : sequence(argument))
        if (const auto both = sequence(pair); both.size() == 2) pairs.emplace_back(both[0], both[1]);
  }
  for (size_t i = 0; i + 1 < value.items.size(); i += 2) pairs.emplace_back(value.items[i], value.items[i + 1]);
  return pairs;
}

std::vector<Pickle::Ref> Pickle::sequence(Ref ref) const {
  const Value& value = values_[ref];
  if (value.kind == Kind::kList || value.kind == Kind::kTuple) return value.items;
  if (value.kind != Kind::kCall || !is_sequence_class(value.text)) return {};
  if (!value.items.empty()) return value.items;
  const auto& arguments = values_[value.args].items;
  if (arguments.size() != 1) return {};
  const Value& first = values_[arguments[0]];
  return first.kind == Kind::kList || first.kind == Kind::kTuple ? first.items : std::vector<Ref>();
}

std::optional<std::vector<int64_t>> Pickle::integers(Ref ref) const {
  std::vector<int64_t> numbers;
  for (const Ref item : sequence(ref)) {
    if (values_[item].kind != Kind::kInt) return std::nullopt;
    numbers.push_back(values_[item].integer);
  }
  return numbers;
}

std::optional<Pickle::Ref> Pickle::at(Ref ref, std::string_view key) const {
  for (const auto& [name_ref, value] : dict(ref))
    if (values_[name_ref].kind == Kind::kString && values_[name_ref].text == key) return value;
  return std::nullopt;
}

std::string Pickle::name(Ref ref) const {
  const Value& value = values_[ref];
  if (value.kind == Kind::kString || value.kind == Kind::kBytes) return value.text;
  return value.kind == Kind::kInt ? std::to_string(value.integer) : std::string();
}

}  // namespace orrery::weights_detail
