#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "orrery/hub.h"

namespace orrery::hub_detail {

/// One file of a repository as the hub describes it.
struct RemoteFile {
  std::string path;
  int64_t size = -1;    ///< -1 where the hub does not say
  std::string blob;     ///< its name in the cache: the sha256 of a large file, the git hash of a small one
  bool sha256 = false;  ///< whether `blob` is a sha256 of the content
};

struct Listing {
  std::string commit;
  std::vector<RemoteFile> files;
};

/// Reads the hub's answer to /api/models/{repository}/revision/{revision}?blobs=true. Every path and hash in it is checked:
/// none can reach out of the cache. Throws Error(kDevice) when it is malformed.
Listing parse_listing(std::string_view json, const std::string& place);

/// The files that a model needs. `parts` are the components that a pipeline's model_index.json names; empty where there is
/// none.
std::vector<RemoteFile> choose_files(const Listing& listing, const std::string& inside,
                                     const std::vector<std::string>& parts, const FileFilter& filter);

/// The components with weights or settings of their own that a model_index.json names.
std::vector<std::string> parts_of_pipeline(std::string_view model_index);

/// Whether a local folder holds all it says it needs: the parts of its model_index.json, the shards of an index, some
/// weights.
bool is_complete(const std::filesystem::path& folder);

}  // namespace orrery::hub_detail
