#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orrery/export.h"

namespace orrery {

/// A read-only view on one JSON object, e.g. a component's config.json. Names and defaults are the reference's.
/// A key of the wrong type is an Error(kConfig) that names file and key; nothing falls back silently. Copies are cheap.
class ORRERY_API Config {
 public:
  /// An empty object.
  Config();
  /// Reads a file; throws Error(kConfig) when it is missing, no JSON, or not an object.
  static Config load(const std::filesystem::path& path);
  /// Parses text; `place` names it in errors.
  static Config parse(std::string_view json, std::string place);
  /// Writes the object as compact JSON text.
  std::string dump() const;

  /// Where it came from, for messages.
  const std::string& place() const;
  bool has(std::string_view key) const;       ///< present and not null
  bool is_array(std::string_view key) const;  ///< present and an array
  std::vector<std::string> keys() const;

  /// The value of a key, or `fallback` when the key is absent or null. T is bool, int64_t, double, std::string,
  /// std::vector<bool>, std::vector<int64_t>, std::vector<double> or std::vector<std::string>. Integers are accepted as
  /// double.
  template <typename T>
  T get(std::string_view key, T fallback) const;
  /// The value of a key that must be there.
  template <typename T>
  T require(std::string_view key) const;
  /// The value of a key that may be absent or null.
  template <typename T>
  std::optional<T> find(std::string_view key) const;
  /// Throws Error(kConfig) unless `holds`: the key, the value it has and what was `expected` of it.
  void check(bool holds, std::string_view key, std::string expected) const;
  /// An object inside this one; an empty one when it is absent.
  Config object(std::string_view key) const;
  /// The objects of an array of objects; empty when it is absent.
  std::vector<Config> objects(std::string_view key) const;

  /// This object with one more key, for presets and for tests.
  template <typename T>
  Config with(std::string_view key, T value) const;

  /// Keys that nobody has read yet (keys that begin with '_' are not counted); they are logged once after a load.
  std::vector<std::string> unread() const;

 private:
  struct Impl;
  explicit Config(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace orrery
