#include "orrery/config.h"

#include <fstream>
#include <limits>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <type_traits>

#include "orrery/error.h"

namespace orrery {
namespace {

using Json = nlohmann::json;

// Deeper nesting than any real config; it bounds the recursion of writing and of our own walks.
constexpr int kMaxDepth = 64;

template <typename T>
struct Element;
template <typename T>
struct Element<std::vector<T>> {
  using type = T;
};
template <typename T>
constexpr bool kIsVector = false;
template <typename T>
constexpr bool kIsVector<std::vector<T>> = true;

template <typename T>
std::string type_name() {
  if constexpr (std::is_same_v<T, bool>)
    return "true or false";
  else if constexpr (std::is_same_v<T, int64_t>)
    return "an integer";
  else if constexpr (std::is_same_v<T, double>)
    return "a number";
  else if constexpr (std::is_same_v<T, std::string>)
    return "a string";
  else
    return "an array, each item " + type_name<typename Element<T>::type>();
}

std::string shortened(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  constexpr size_t kLongest = 60;
  return text.size() > kLongest ? text.substr(0, kLongest) + "…" : text;
}

template <typename T>
std::optional<T> convert(const Json& value) {
  if constexpr (kIsVector<T>) {
    if (!value.is_array()) return std::nullopt;
    T items;
    for (const Json& item : value) {
      auto converted = convert<typename T::value_type>(item);
      if (!converted) return std::nullopt;
      items.push_back(std::move(*converted));
    }
    return items;
  } else if constexpr (std::is_same_v<T, bool>) {
    return value.is_boolean() ? std::optional<bool>(value.get<bool>()) : std::nullopt;
  } else if constexpr (std::is_same_v<T, int64_t>) {
    if (!value.is_number_integer()) return std::nullopt;
    if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return std::nullopt;
    return value.get<int64_t>();
  } else if constexpr (std::is_same_v<T, double>) {
    return value.is_number() ? std::optional<double>(value.get<double>()) : std::nullopt;
  } else {
    return value.is_string() ? std::optional<std::string>(value.get<std::string>()) : std::nullopt;
  }
}

}  // namespace

struct Config::Impl {
  Json json = Json::object();
  std::string place = "(no config)";
  mutable std::mutex mutex;
  mutable std::set<std::string, std::less<>> read;
  mutable std::map<std::string, std::vector<Config>, std::less<>> children;  // kept so that their unread keys are known here

  const Json* value(std::string_view key) const {
    {
      std::lock_guard lock(mutex);
      read.emplace(key);
    }
    const auto found = json.find(key);
    return found == json.end() || found->is_null() ? nullptr : &*found;
  }

  [[noreturn]] void wrong_type(std::string_view key, std::string expected, const Json& got) const {
    throw Error(ErrorKind::kConfig, {.place = place + ": " + std::string(key),
                                     .what = "has the wrong type",
                                     .expected = std::move(expected),
                                     .got = shortened(got)});
  }

  static std::shared_ptr<Impl> of(Json json, std::string place) {
    auto impl = std::make_shared<Impl>();
    impl->json = std::move(json);
    impl->place = std::move(place);
    return impl;
  }
};

Config::Config() : impl_(std::make_shared<Impl>()) {}
Config::Config(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Config Config::load(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf()))
    throw Error(ErrorKind::kConfig, {.place = path.string(), .what = "cannot be read", .hint = "is the path right?"});
  return parse(text.str(), path.string());
}

Config Config::parse(std::string_view json, std::string place) {
  const auto too_deep = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kMaxDepth) throw Error(ErrorKind::kConfig, {.place = place, .what = "is nested too deeply to be a config"});
    return true;
  };
  Json parsed;
  try {
    parsed = Json::parse(json.begin(), json.end(), too_deep);
  } catch (const Json::exception& error) {
    throw Error(
        ErrorKind::kConfig,
        {.place = place, .what = std::string("is no valid JSON (") + error.what() + ")", .hint = "is the file complete?"});
  }
  if (!parsed.is_object())
    throw Error(ErrorKind::kConfig,
                {.place = place, .what = "is no config", .expected = "a JSON object", .got = shortened(parsed)});
  return Config(Impl::of(std::move(parsed), std::move(place)));
}

std::string Config::dump() const {
  return impl_->json.dump();
}
const std::string& Config::place() const {
  return impl_->place;
}

bool Config::has(std::string_view key) const {
  const auto found = impl_->json.find(key);
  return found != impl_->json.end() && !found->is_null();
}

bool Config::is_array(std::string_view key) const {
  const auto found = impl_->json.find(key);
  return found != impl_->json.end() && found->is_array();
}

std::vector<std::string> Config::keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : impl_->json.items()) keys.push_back(key);
  return keys;
}

template <typename T>
std::optional<T> Config::find(std::string_view key) const {
  const Json* value = impl_->value(key);
  if (!value) return std::nullopt;
  auto converted = convert<T>(*value);
  if (!converted) impl_->wrong_type(key, type_name<T>(), *value);
  return converted;
}

template <typename T>
T Config::get(std::string_view key, T fallback) const {
  auto value = find<T>(key);
  return value ? std::move(*value) : std::move(fallback);
}

template <typename T>
T Config::require(std::string_view key) const {
  auto value = find<T>(key);
  if (!value)
    throw Error(ErrorKind::kConfig,
                {.place = place() + ": " + std::string(key), .what = "is missing", .expected = type_name<T>()});
  return std::move(*value);
}

void Config::check(bool holds, std::string_view key, std::string expected) const {
  if (holds) return;
  throw Error(ErrorKind::kConfig, {.place = place() + ": " + std::string(key),
                                   .what = "does not fit",
                                   .expected = std::move(expected),
                                   .got = has(key) ? shortened(impl_->json.at(std::string(key))) : "nothing"});
}

Config Config::object(std::string_view key) const {
  const Json* value = impl_->value(key);
  const std::string place = impl_->place + ": " + std::string(key);
  if (!value) return Config(Impl::of(Json::object(), place));
  if (!value->is_object()) impl_->wrong_type(key, "an object", *value);
  std::lock_guard lock(impl_->mutex);
  auto& known = impl_->children[std::string(key)];
  if (known.empty()) known.push_back(Config(Impl::of(*value, place)));
  return known.front();
}

std::vector<Config> Config::objects(std::string_view key) const {
  const Json* value = impl_->value(key);
  if (!value) return {};
  const auto is_object = [](const Json& item) { return item.is_object(); };
  if (!value->is_array() || !std::all_of(value->begin(), value->end(), is_object))
    impl_->wrong_type(key, "an array of objects", *value);
  std::lock_guard lock(impl_->mutex);
  auto& known = impl_->children[std::string(key)];
  if (known.empty())
    for (const Json& item : *value)
      known.push_back(Config(Impl::of(item, impl_->place + ": " + std::string(key) + "." + std::to_string(known.size()))));
  return known;
}

template <typename T>
Config Config::with(std::string_view key, T value) const {
  Json json = impl_->json;
  if constexpr (std::is_same_v<T, Config>) {
    json[std::string(key)] = value.impl_->json;
  } else {
    json[std::string(key)] = std::move(value);
  }
  return Config(Impl::of(std::move(json), impl_->place));
}

std::vector<std::string> Config::unread() const {
  std::lock_guard lock(impl_->mutex);
  std::vector<std::string> unread;
  for (const auto& [key, value] : impl_->json.items()) {
    if (key.starts_with('_')) continue;
    if (!impl_->read.contains(key)) unread.push_back(key);
    const auto children = impl_->children.find(key);
    if (children == impl_->children.end()) continue;
    for (const Config& child : children->second)
      for (const std::string& name : child.unread()) unread.push_back(key + "." + name);
  }
  return unread;
}

#define ORRERY_CONFIG_TYPE(T)                                                \
  template ORRERY_API std::optional<T> Config::find(std::string_view) const; \
  template ORRERY_API T Config::get(std::string_view, T) const;              \
  template ORRERY_API T Config::require(std::string_view) const;             \
  template ORRERY_API Config Config::with(std::string_view, T) const;
ORRERY_CONFIG_TYPE(bool)
ORRERY_CONFIG_TYPE(int64_t)
ORRERY_CONFIG_TYPE(double)
ORRERY_CONFIG_TYPE(std::string)
ORRERY_CONFIG_TYPE(std::vector<bool>)
ORRERY_CONFIG_TYPE(std::vector<int64_t>)
ORRERY_CONFIG_TYPE(std::vector<double>)
ORRERY_CONFIG_TYPE(std::vector<std::string>)
#undef ORRERY_CONFIG_TYPE
template ORRERY_API Config Config::with(std::string_view, int) const;
template ORRERY_API Config Config::with(std::string_view, const char*) const;
template ORRERY_API Config Config::with(std::string_view, Config) const;

}  // namespace orrery
