#include "orrery/hub.h"

#include <fstream>
#include <sstream>

#include "hub/fetch.h"
#include "orrery/error.h"
#include "orrery/log.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;
using namespace hub_detail;

constexpr size_t kLongestName = 96;  // of each part, as the hub has it

bool is_name(std::string_view text) {
  const auto plain = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.'; };
  return !text.empty() && text.size() <= kLongestName && std::all_of(text.begin(), text.end(), plain) &&
         text.front() != '.' && text.front() != '-' && text.find("..") == std::string_view::npos;
}

bool is_inner_path(std::string_view text) {
  if (text.size() > 1 && text.ends_with('/')) text.remove_suffix(1);
  for (const fs::path& part : fs::path(text))
    if (part.empty() || part == ".." || part == "." || part == "/") return false;
  return !text.empty();
}

struct Parts {
  std::string_view organisation, name, revision, inside;
  bool has_revision = false, has_inside = false;
};

Parts split(std::string_view text) {
  Parts parts;
  if (const size_t colon = text.find(':'); colon != std::string_view::npos) {
    parts.inside = text.substr(colon + 1);
    parts.has_inside = true;
    text = text.substr(0, colon);
  }
  if (const size_t at = text.find('@'); at != std::string_view::npos) {
    parts.revision = text.substr(at + 1);
    parts.has_revision = true;
    text = text.substr(0, at);
  }
  const size_t slash = text.find('/');
  parts.organisation = text.substr(0, slash);
  parts.name = slash == std::string_view::npos ? std::string_view() : text.substr(slash + 1);
  return parts;
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

fs::path inside_of(const fs::path& snapshot, const HubId& id) {
  return id.inside.empty() ? snapshot : snapshot / id.inside;
}

bool serves(const fs::path& place) {
  return fs::is_regular_file(place) || is_complete(place);
}

fs::path fetch(const HubSettings& settings, const HubId& id, const WorkOptions& work, const FileFilter& filter) {
  Fetcher fetcher(settings, id, work);
  const Listing listing = fetcher.list();
  const CachedRepository repository(settings.cache, id.repository);
  const fs::path snapshot = repository.snapshot(listing.commit);
  std::vector<std::string> parts;
  for (const RemoteFile& file : listing.files) {
    if (file.path != "model_index.json" || !id.inside.empty() || filter) continue;
    fetcher.fetch(listing, {file});
    parts = parts_of_pipeline(read_text(snapshot / file.path));
  }
  const auto files = choose_files(listing, id.inside, parts, filter);
  if (files.empty())
    throw Error(ErrorKind::kArgument,
                {.place = id.repository + "@" + id.revision,
                 .what = id.inside.empty() ? "holds no files that a model needs" : "holds nothing under " + id.inside,
                 .hint = "check the name on the model's page"});
  Fetcher(settings, id, work).fetch(listing, files);
  repository.set_ref(id.revision, listing.commit);
  return inside_of(snapshot, id);
}

[[noreturn]] void not_here(const std::string& text, bool is_id) {
  throw Error(ErrorKind::kArgument,
              {.place = text,
               .what = is_id ? "is not in the local cache, and HF_HUB_OFFLINE forbids to fetch it" : "does not exist",
               .expected = is_id ? "" : "a model folder, a checkpoint file, or a hub id org/name[@revision][:subfolder]",
               .hint = is_id ? "fetch it once with `orrery pull` while online" : ""});
}

}  // namespace

bool is_hub_id(std::string_view text) {
  const Parts parts = split(text);
  return is_name(parts.organisation) && is_name(parts.name) && (!parts.has_revision || is_inner_path(parts.revision)) &&
         (!parts.has_inside || is_inner_path(parts.inside));
}

HubId parse_hub_id(std::string_view text) {
  if (!is_hub_id(text))
    throw Error(ErrorKind::kArgument,
                {.place = std::string(text), .what = "is no hub id", .expected = "org/name[@revision][:subfolder]"});
  const Parts parts = split(text);
  HubId id{.repository = std::string(parts.organisation) + "/" + std::string(parts.name),
           .inside = std::string(parts.inside)};
  if (parts.has_revision) id.revision = parts.revision;
  if (id.inside.ends_with('/')) id.inside.pop_back();
  return id;
}

fs::path resolve(const std::string& path_or_id, const WorkOptions& work, const FileFilter& filter) {
  std::error_code none;
  if (fs::exists(path_or_id, none)) return path_or_id;
  if (!is_hub_id(path_or_id)) not_here(path_or_id, false);
  const HubId id = parse_hub_id(path_or_id);
  const HubSettings settings = read_settings();
  const CachedRepository repository(settings.cache, id.repository);
  if (const auto commit = repository.commit_of(id.revision)) {
    const fs::path place = inside_of(repository.snapshot(*commit), id);
    // With a filter only the caller knows what is enough; the hub, when it may be asked, names what lacks.
    if (filter ? settings.offline && fs::exists(place) : serves(place)) return place;
  }
  if (settings.offline) not_here(path_or_id, true);
  log(LogLevel::kInfo, path_or_id + ": fetching from " + settings.endpoint);
  return fetch(settings, id, work, filter);
}

fs::path pull(const std::string& text, const WorkOptions& work, const FileFilter& filter) {
  const HubId id = parse_hub_id(text);
  const HubSettings settings = read_settings();
  if (settings.offline) return resolve(text, work, filter);
  return fetch(settings, id, work, filter);
}

}  // namespace orrery
