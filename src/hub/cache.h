#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "orrery/hub.h"

namespace orrery::hub_detail {

/// What the environment says, as the hub's own tools read it.
struct HubSettings {
  std::filesystem::path cache;  ///< HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub
  std::string endpoint;         ///< HF_ENDPOINT without a slash at the end
  std::string token;            ///< HF_TOKEN, else HF_HOME/token; may be empty
  bool offline = false;         ///< HF_HUB_OFFLINE
};
HubSettings read_settings();

/// One repository in the cache: refs/<revision> names a commit, snapshots/<commit>/ holds links into blobs/.
class CachedRepository {
 public:
  CachedRepository(const std::filesystem::path& cache, const std::string& repository);

  /// The commit that a revision stood for when it was last fetched; a full commit stands for itself.
  std::optional<std::string> commit_of(const std::string& revision) const;
  std::filesystem::path snapshot(const std::string& commit) const { return root_ / "snapshots" / commit; }
  std::filesystem::path blob(const std::string& name) const { return root_ / "blobs" / name; }
  const std::filesystem::path& root() const { return root_; }

  /// Makes snapshot/path a link to a blob (relative, so that the cache may be moved).
  void link(const std::string& commit, const std::string& path, const std::string& blob_name) const;
  /// Notes what a revision stands for; done last, when all its files are there.
  void set_ref(const std::string& revision, const std::string& commit) const;

 private:
  std::filesystem::path root_;
};

}  // namespace orrery::hub_detail
