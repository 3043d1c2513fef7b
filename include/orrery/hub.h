#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "orrery/export.h"
#include "orrery/progress.h"

namespace orrery {

/// A name on the model hub: org/name[@revision][:subfolder]; the last part may also be one file of the repository.
struct HubId {
  std::string repository;         ///< "org/name"
  std::string revision = "main";  ///< a branch, a tag or a full commit
  std::string inside;             ///< "", "vae", "transformer/config.json", …
};

/// Whether a text has the form of a hub id. It says nothing about whether such a model, or a local path of that name,
/// exists.
ORRERY_API bool is_hub_id(std::string_view text);
/// Takes a hub id apart; throws Error(kArgument) when it is none.
ORRERY_API HubId parse_hub_id(std::string_view text);

/// Chooses among the files of a repository by their path in it.
using FileFilter = std::function<bool(std::string_view path)>;

/// The local place of a model: a path that exists as it is, else a hub id, found in the Hugging Face cache or fetched into
/// it. Files fetched (without a `filter`): configurations and tokenizers, and weights, of which .safetensors go before .bin,
/// .pt and the like in the same folder; for a pipeline those of the parts that its model_index.json names. They are resumed
/// after a cut, and their size and sha256 are checked. Progress is told as stage "download" in bytes.
///
/// Environment, as for the hub's own tools: HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_TOKEN (or the token file in HF_HOME),
/// HF_ENDPOINT. The token is sent to the endpoint only.
/// Throws Error: kArgument (no such path or model, no access), kDevice (network, disk), kWeights (a file that does not match
/// its checksum), kCancelled.
ORRERY_API std::filesystem::path resolve(const std::string& path_or_id, const WorkOptions& work = {},
                                         const FileFilter& filter = {});

/// Like resolve() of a hub id, but asks the hub even when the cache holds an earlier state of that revision.
ORRERY_API std::filesystem::path pull(const std::string& id, const WorkOptions& work = {}, const FileFilter& filter = {});

}  // namespace orrery
