#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>

namespace orrery {

/// Which model a state belongs to. Hashing gigabytes takes a moment, so it waits until somebody asks.
class ModelIdentity {
 public:
  explicit ModelIdentity(std::filesystem::path place) : place_(std::move(place)) {}
  /// Of the names and contents of the folder's configurations (.json) and weights, in the order of their names.
  uint64_t hash() const;

 private:
  std::filesystem::path place_;
  mutable std::once_flag once_;
  mutable uint64_t hash_ = 0;
};

}  // namespace orrery
