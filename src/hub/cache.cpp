#include "hub/cache.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>

#include "orrery/error.h"

namespace orrery::hub_detail {
namespace {

namespace fs = std::filesystem;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
  return line;
}

bool is_commit(const std::string& text) {
  return text.size() == 40 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

/// Runs a file operation; what fails is a message about the disk.
template <typename Operation>
void on_disk(const fs::path& path, Operation operation) {
  try {
    operation();
  } catch (const fs::filesystem_error& error) {
    throw Error(ErrorKind::kDevice, {.place = path.string(),
                                     .what = "cannot be written (" + error.code().message() + ")",
                                     .hint = "free some space, or set HF_HOME to another folder"});
  }
}

}  // namespace

HubSettings read_settings() {
  HubSettings settings;
  fs::path home = environment("HF_HOME");
  if (home.empty()) {
    const std::string cache = environment("XDG_CACHE_HOME");
    home = (cache.empty() ? fs::path(environment("HOME")) / ".cache" : fs::path(cache)) / "huggingface";
  }
  settings.cache = environment("HF_HUB_CACHE");
  if (settings.cache.empty()) settings.cache = home / "hub";
  settings.endpoint = environment("HF_ENDPOINT");
  if (settings.endpoint.empty()) settings.endpoint = "https://huggingface.co";
  while (settings.endpoint.ends_with('/')) settings.endpoint.pop_back();
  settings.token = environment("HF_TOKEN");
  if (settings.token.empty()) settings.token = first_line(home / "token");
  std::string offline = environment("HF_HUB_OFFLINE");
  std::transform(offline.begin(), offline.end(), offline.begin(), [](unsigned char c) { return std::toupper(c); });
  settings.offline = offline == "1" || offline == "ON" || offline == "YES" || offline == "TRUE";
  return settings;
}

CachedRepository::CachedRepository(const fs::path& cache, const std::string& repository) {
  std::string name = "models--" + repository;
  name.replace(name.find('/'), 1, "--");
  root_ = cache / name;
}

std::optional<std::string> CachedRepository::commit_of(const std::string& revision) const {
  if (is_commit(revision)) return revision;
  const std::string commit = first_line(root_ / "refs" / revision);
  return is_commit(commit) ? std::optional(commit) : std::nullopt;
}

void CachedRepository::link(const std::string& commit, const std::string& path, const std::string& blob_name) const {
  const fs::path link = snapshot(commit) / path;
  on_disk(link, [&] {
    fs::create_directories(link.parent_path());
    if (fs::is_symlink(link) || fs::exists(link)) fs::remove(link);
    fs::create_symlink(fs::relative(blob(blob_name), link.parent_path()), link);
  });
}

void CachedRepository::set_ref(const std::string& revision, const std::string& commit) const {
  if (is_commit(revision)) return;
  const fs::path ref = root_ / "refs" / revision;
  const fs::path beside = ref.string() + "." + std::to_string(::getpid());
  on_disk(ref, [&] {
    fs::create_directories(ref.parent_path());
    if (!(std::ofstream(beside) << commit << std::flush))
      throw fs::filesystem_error("", ref, std::error_code(errno, std::generic_category()));
    fs::rename(beside, ref);
  });
}

}  // namespace orrery::hub_detail
