#include "orrery/action_space.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "models/registry.h"
#include "orrery/error.h"

namespace orrery {
namespace {

std::string text_of(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

[[noreturn]] void misfit(const std::string& name, const std::string& what) {
  throw Error(ErrorKind::kConfig, {.place = "action_space.json: " + name, .what = what});
}

}  // namespace

ActionSpace ActionSpace::read(const Config& config) {
  ActionSpace space;
  space.name = config.get<std::string>("name", "");
  space.discrete = config.require<std::string>("type") == "discrete";
  space.width = config.get<int64_t>("width", 1);
  space.rows_per_step = config.get<int64_t>("rows_per_step", 1);
  space.names = config.get<std::vector<std::string>>("names", {});
  space.units = config.get<std::string>("units", "");
  space.normalisation = config.get<std::string>("normalisation", "");
  space.rate_hz = config.get<double>("rate_hz", 0);
  const Config encoding = config.object("encoding"), named = config.object("named"), keys = config.object("keys");
  if (space.discrete) {
    space.low = {0};
    space.high = {static_cast<double>(encoding.require<int64_t>("count") - 1)};
  } else {
    space.low = encoding.get<std::vector<double>>("low", {});
    space.high = encoding.get<std::vector<double>>("high", {});
  }
  if (space.width < 1 || space.rows_per_step < 1) misfit("width", "is not positive");
  if (space.low.size() != space.high.size() || (!space.low.empty() && static_cast<int64_t>(space.low.size()) != space.width))
    misfit("encoding", "has not one range for each number of a row");
  for (size_t i = 0; i < space.low.size(); ++i)
    if (!(space.low[i] < space.high[i])) misfit("encoding", "has an empty range");
  for (const std::string& name : named.keys()) {
    space.named[name] = named.require<std::vector<double>>(name);
    try {
      space.check(space.named[name]);
    } catch (const Error& error) {
      misfit("named: " + name, error.detail().what);
    }
  }
  if (const auto nothing = space.named.find("nothing"); nothing != space.named.end()) space.idle = nothing->second;
  space.keys_add = config.get<bool>("keys_add", false);
  for (const std::string& key : keys.keys()) {
    space.keys[key] = keys.require<std::string>(key);
    if (!space.named.contains(space.keys[key])) misfit("keys: " + key, "means a row that has no such name");
  }
  const Config deltas = config.object("pointer_keys"), pointer = config.object("pointer");
  for (const std::string& key : deltas.keys()) {
    space.key_deltas[key] = deltas.require<std::vector<double>>(key);
    if (static_cast<int64_t>(space.key_deltas[key].size()) != space.width)
      misfit("pointer_keys: " + key, "has the wrong width");
  }
  if (pointer.keys().size() >= 2) {
    space.pointer = {pointer.require<int64_t>("x"), pointer.require<int64_t>("y")};
    for (const int64_t index : space.pointer)
      if (index < 0 || index >= static_cast<int64_t>(space.low.size()))
        misfit("pointer", "follows a number that is not there or has no range");
  }
  return space;
}

void ActionSpace::check(const std::vector<double>& row, const std::string& place) const {
  const auto size = static_cast<int64_t>(row.size());
  const bool fits = width == 0 ? size == 0 : size >= width && size % width == 0 && size / width <= rows_per_step;
  if (!fits)
    throw Error(ErrorKind::kArgument,
                {.place = place,
                 .what = "has the wrong width",
                 .expected = std::to_string(width) + " numbers" +
                             (rows_per_step > 1 ? ", or up to " + std::to_string(rows_per_step) + " such rows" : ""),
                 .got = std::to_string(size)});
  for (size_t i = 0; i < row.size(); ++i) {
    const size_t column = i % static_cast<size_t>(width);
    const std::string at = place + "[" + std::to_string(i) + "]";
    if (!std::isfinite(row[i]))
      throw Error(ErrorKind::kArgument, {.place = at, .what = "is not a finite number", .got = text_of(row[i])});
    if (low.empty()) continue;
    const bool whole = !discrete || row[i] == std::floor(row[i]);
    if (whole && row[i] >= low[column] && row[i] <= high[column]) continue;
    throw Error(ErrorKind::kArgument,
                {.place = at,
                 .what = "is out of range",
                 .expected = text_of(low[column]) + " … " + text_of(high[column]) + (discrete ? ", a whole number" : ""),
                 .got = text_of(row[i])});
  }
}

std::vector<double> ActionSpace::encode(const std::string& name) const {
  if (const auto found = named.find(name); found != named.end()) return found->second;
  std::string known;
  for (const auto& [each, row] : named) known += (known.empty() ? "'" : ", '") + each + "'";
  throw Error(ErrorKind::kArgument, {.place = "action",
                                     .what = "has a name that this world does not know",
                                     .expected = known.empty() ? "a row of numbers" : "one of " + known,
                                     .got = "'" + name + "'"});
}

std::optional<ActionSpace> describe_action_space(const ModelDescription& model) {
  for (const models::WorldEntry& entry : models::world_entries())
    if (model.class_name == entry.class_name) return entry.action_space(model);
  return std::nullopt;
}

}  // namespace orrery
